"""How a family chooses among its experts, as its row or its file says."""

from typing import Literal

from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import Choice
from pipelines.conversion.architectures.table import Routing

SOFTMAX, SIGMOID = 1, 2
"""Of `expert_gating_func`."""


def choice(keys: Keys, tensors: Tensors, block: str, routing: Routing) -> Choice:
    """The choice of one block."""
    count = keys.count("expert_count")
    used = keys.count("expert_used_count")
    if used > count:
        keys.fail("expert_used_count", f"is {used}, more than the {count} experts")
    scale = keys.scale("expert_weights_scale")
    if not routing.configured:
        return Choice(experts=count, used=used, renormalized=routing.renormalized, scale=scale)
    bias_name = f"{block}.exp_probs_b.bias"
    bias = tensors.vector(bias_name, count) if bias_name in tensors else None
    groups = keys.count_or_zero("expert_group_count") or 1
    groups_used = keys.count_or_zero("expert_group_used_count") or 1
    if count % groups:
        keys.fail("expert_group_count", f"is {groups}, no divisor of the {count} experts")
    if groups_used > groups or used > groups_used * (count // groups):
        keys.fail("expert_group_used_count", f"is {groups_used}: too many, or too few experts")
    return Choice(
        experts=count,
        used=used,
        gating=_gating(keys, is_biased=bias is not None),
        renormalized=routing.always_renormalized or keys.flag("expert_weights_norm", False),
        scale=scale,
        selection_bias=bias,
        groups=groups,
        groups_used=groups_used,
    )


def _gating(keys: Keys, *, is_biased: bool) -> Literal["softmax", "sigmoid"]:
    """Older files name no function; the bias came with the sigmoid, in DeepSeek-V3."""
    number = keys.count_or_zero("expert_gating_func")
    if number == 0:
        return "sigmoid" if is_biased else "softmax"
    if number == SOFTMAX:
        return "softmax"
    if number == SIGMOID:
        return "sigmoid"
    keys.refuse("expert_gating_func", f"is {number}, supported are {SOFTMAX} and {SIGMOID}")
