"""Reads from the family's row or the file how a block selects among its experts."""

from typing import Literal

from pipelines.conversion.architectures.architecture import Routing
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import ExpertSelection
from runtime.gguf import TensorInfo

SOFTMAX, SIGMOID = 1, 2
"""Of `expert_gating_func`."""


def expert_selection(keys: Keys, tensors: Tensors, block: str, routing: Routing) -> ExpertSelection:
    """Return how a block selects its experts. Raises GGUFError or UnsupportedModel."""
    count = keys.count("expert_count")
    used = keys.count("expert_used_count")
    if used > count:
        keys.fail("expert_used_count", f"is {used}, more than the {count} experts")
    scale = keys.scale("expert_weights_scale")
    bias = _selection_bias(tensors, block, count)
    gating, renormalized = routing.gating, routing.renormalized
    if gating is not None:
        return ExpertSelection(
            experts=count,
            used=used,
            gating=gating,
            renormalized=_renormalized(keys, renormalized),
            scale=scale,
            selection_bias=bias,
        )
    groups = keys.count_or_zero("expert_group_count") or 1
    groups_used = keys.count_or_zero("expert_group_used_count") or 1
    if count % groups:
        keys.fail("expert_group_count", f"is {groups}, no divisor of the {count} experts")
    if groups_used > groups or used > groups_used * (count // groups):
        keys.fail("expert_group_used_count", f"is {groups_used}: too many, or too few experts")
    return ExpertSelection(
        experts=count,
        used=used,
        gating=_gating(keys, routing.default_gating, is_biased=bias is not None),
        renormalized=_renormalized(keys, renormalized),
        scale=scale,
        selection_bias=bias,
        groups=groups,
        groups_used=groups_used,
    )


def _selection_bias(tensors: Tensors, block: str, count: int) -> TensorInfo | None:
    for name in (f"{block}.exp_probs_b.bias", f"{block}.exp_probs_b"):
        if name in tensors:
            return tensors.vector(name, count)
    return None


def _renormalized(keys: Keys, of_family: bool | None) -> bool:
    return keys.flag("expert_weights_norm", False) if of_family is None else of_family


def _gating(
    keys: Keys, default: Literal["softmax", "sigmoid"] | None, *, is_biased: bool
) -> Literal["softmax", "sigmoid"]:
    """Older files name no function; the bias was introduced with the sigmoid, in DeepSeek-V3."""
    number = keys.count_or_zero("expert_gating_func")
    if number == 0 and default is not None:
        return default
    if number == 0:
        return "sigmoid" if is_biased else "softmax"
    if number == SOFTMAX:
        return "softmax"
    if number == SIGMOID:
        return "sigmoid"
    keys.refuse("expert_gating_func", f"is {number}, supported are {SOFTMAX} and {SIGMOID}")
