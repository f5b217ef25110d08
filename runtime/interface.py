"""The interface of a step graph: names and shapes of its inputs and outputs.

Conversion writes graphs with it, sessions and the exact model run them, validation checks it.
Letters in shapes: T = tokens of the step, B = rows (requests), P = columns of the page table,
R = rows whose logits are needed. Graphs with recurrent layers also have inputs and an output of
states, after the others.
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
STATE_STARTS = "state_starts"
STATE_SLOTS = "state_slots"
STATE_POOL = "state_pool"
STATE_POOL_OUT = "state_pool_out"

STEP_INPUTS = (TOKEN_IDS, POSITIONS, ROW_STARTS, PAGE_TABLE, LOGIT_ROWS)
"""The int32 arrays of one step, in the graph's order: the first fields of `StepInputs`."""
STATE_STEP_INPUTS = (STATE_STARTS, STATE_SLOTS)
"""Those of a step over states: the other fields."""
INPUTS = (*STEP_INPUTS, PAGE_POOL)
OUTPUTS = (LOGITS, PAGE_POOL_OUT)
STATE_INPUTS = (*STATE_STEP_INPUTS, STATE_POOL)
STATE_OUTPUTS = (STATE_POOL_OUT,)

POOLS = {PAGE_POOL: PAGE_POOL_OUT, STATE_POOL: STATE_POOL_OUT}
"""Each pool, and the output that is the same memory after the step."""

NO_SLOT = -1
"""In state_starts: the row begins its sequence. In state_slots: the state is not kept."""

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
        *(
            (
                GraphValue(STATE_STARTS, "int32", ("B",)),
                GraphValue(STATE_SLOTS, "int32", ("T",)),
                _state_pool(STATE_POOL, layout),
            )
            if layout.state_values
            else ()
        ),
    )


def graph_outputs(layout: PageLayout, width: int) -> tuple[GraphValue, ...]:
    """Return the outputs of a model's graph, in order: logits, and the pools, written in place.

    In a model that pools, `logits` are the rows of texts, `width` values each.
    """
    logits = GraphValue(LOGITS, "float32", ("R", width))
    states = (_state_pool(STATE_POOL_OUT, layout),) if layout.state_values else ()
    return logits, _pool(PAGE_POOL_OUT, layout), *states


def pool_shape(layout: PageLayout, pages: int, page_size: int) -> PoolShape:
    """Return [layers, pages, 2, kv_heads, page_size, head_dim] of a pool of `pages` pages."""
    return layout.layers, pages, 2, layout.kv_heads, page_size, layout.head_dim


def layer_pool(pool: str, writer: str) -> str:
    """Return the name of a pool after a node's write: the same memory as the graph's input."""
    return f"{writer}.{pool}"


def is_pool(name: str) -> bool:
    """Whether a value of the graph is the page pool or the pool of states, at any layer."""
    return any(pool in name for pool in POOLS)


def pool_of(name: str) -> str:
    """Return the input of the graph that shares an output's memory."""
    return next(pool for pool in POOLS if pool in name)


def _pool(name: str, layout: PageLayout) -> GraphValue:
    layers, _, sides, kv_heads, _, head_dim = pool_shape(layout, 0, 0)
    return GraphValue(name, "float16", (layers, "pages", sides, kv_heads, "page_size", head_dim))


def _state_pool(name: str, layout: PageLayout) -> GraphValue:
    return GraphValue(name, "float32", ("slots", layout.state_values))
