"""The interface of a step graph: names and shapes of its inputs and outputs.

Conversion writes graphs with it, sessions and the exact model run them, validation checks it.
Letters in shapes: T = tokens of the step, B = rows (requests), P = columns of the page table,
R = rows whose logits are needed.
"""

from dataclasses import dataclass

from runtime.manifest import PageLayout

TOKEN_IDS = "token_ids"
POSITIONS = "positions"
ROW_STARTS = "row_starts"
PAGE_TABLE = "page_table"
LOGIT_ROWS = "logit_rows"
PAGE_POOL = "page_pool"
LOGITS = "logits"
PAGE_POOL_OUT = "page_pool_out"

STEP_INPUTS = (TOKEN_IDS, POSITIONS, ROW_STARTS, PAGE_TABLE, LOGIT_ROWS)
"""The int32 arrays of one step, in the graph's order: the fields of `StepInputs`."""
INPUTS = (*STEP_INPUTS, PAGE_POOL)
OUTPUTS = (LOGITS, PAGE_POOL_OUT)

PoolShape = tuple[int, int, int, int, int, int]
"""[layers, pages, 2, kv_heads, page_size, head_dim]"""


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output of the graph; a dimension is a number or a symbol. Immutable."""

    name: str
    dtype: str
    """NumPy's name of the type."""
    shape: tuple[int | str, ...]


def graph_inputs(layout: PageLayout) -> tuple[GraphValue, ...]:
    """Return the inputs of a model's graph, in order."""
    return (
        GraphValue(TOKEN_IDS, "int32", ("T",)),
        GraphValue(POSITIONS, "int32", ("T",)),
        GraphValue(ROW_STARTS, "int32", ("B_plus_1",)),
        GraphValue(PAGE_TABLE, "int32", ("B", "P")),
        GraphValue(LOGIT_ROWS, "int32", ("R",)),
        _pool(PAGE_POOL, layout),
    )


def graph_outputs(layout: PageLayout, vocabulary_size: int) -> tuple[GraphValue, ...]:
    """Return the outputs of a model's graph, in order; the second is the pool, written in place."""
    return GraphValue(LOGITS, "float32", ("R", vocabulary_size)), _pool(PAGE_POOL_OUT, layout)


def pool_shape(layout: PageLayout, pages: int, page_size: int) -> PoolShape:
    """Return [layers, pages, 2, kv_heads, page_size, head_dim] of a pool of `pages` pages."""
    return layout.layers, pages, 2, layout.kv_heads, page_size, layout.head_dim


def layer_pool(layer: int) -> str:
    """Return the name of the pool after a layer's write: the same memory as the graph's input."""
    return f"blk.{layer}.{PAGE_POOL}"


def is_pool(name: str) -> bool:
    """Whether a value of the graph is the page pool, at any layer."""
    return PAGE_POOL in name


def _pool(name: str, layout: PageLayout) -> GraphValue:
    layers, _, sides, kv_heads, _, head_dim = pool_shape(layout, 0, 0)
    return GraphValue(name, "float16", (layers, "pages", sides, kv_heads, "page_size", head_dim))
