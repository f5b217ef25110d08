"""Reads from a file how a text's rows are pooled, and which heads follow."""

from typing import Literal

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import Linear, Pooling

KINDS: tuple[Literal["mean", "cls", "last"], ...] = ("mean", "cls", "last")
"""By llama.cpp's numbers of `pooling_type`, from 1 on."""
RANK = 4


def pooling_of(
    keys: Keys, tensors: Tensors, architecture: Architecture, width: int
) -> Pooling | None:
    """Return how texts are pooled; None for a model that generates.

    An encoder without `pooling_type` is pooled by its mean.
    """
    kind = keys.value("pooling_type")
    if kind is None or kind == 0:
        if not architecture.is_encoder:
            return None
        kind = 1
    if not isinstance(kind, int) or kind not in range(1, RANK + 1):
        keys.refuse("pooling_type", f"is {kind!r}, supported are 1 to {RANK}")
    is_causal = keys.flag("attention.causal", not architecture.is_encoder)
    if kind != RANK:
        return Pooling(
            kind=KINDS[kind - 1],
            is_causal=is_causal,
            projections=_projections(tensors, width),
        )
    classes = tensors.rows_of("cls.output.weight")
    first = tensors.linear("cls", width, width) if "cls.weight" in tensors else None
    return Pooling(
        kind="last" if is_causal else "cls",
        is_causal=is_causal,
        classifier=tensors.linear("cls.output", classes, width),
        classifier_input=first,
        is_softmax=architecture.name.startswith("qwen3"),
    )


def _projections(tensors: Tensors, width: int) -> tuple[Linear, ...]:
    """Matrices behind the pooled row, as sentence-transformers has them."""
    if "dense_2.weight" not in tensors:
        return ()
    between = tensors.rows_of("dense_2.weight")
    return (
        tensors.linear("dense_2", between, width),
        tensors.linear("dense_3", tensors.rows_of("dense_3.weight"), between),
    )
