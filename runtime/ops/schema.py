"""The schema of the operators of the domain `com.rocmforge`: inputs, outputs and attributes.

Graphs are written from it (pipelines.conversion.nodes) and checked against it
(pipelines.validation.structure). tests/ops/test_schema.py compares it with the NumPy definitions
(runtime.ops.reference), the registrations for the CPU and for AMD GPUs (runtime/ops/native) and
docs/operators.md.

Letters in shapes: T = tokens of the step, B = rows (requests), P = columns of the page table,
L = layers, H = query heads, G = key-value heads, D = head size, C = columns (`columns`), N = rows
of a matrix, W = size of a norm's weight, R = rotated values of a head, E = experts, F = inner size
of an expert (`hidden`), S = size of a state over all layers, K = taps of a convolution.
In SelectiveScan G = groups of heads, N = size of a channel's state.
"""

from collections.abc import Mapping

from runtime.ops.operator import Attribute, Operator, Port

DOMAIN = "com.rocmforge"
DOMAIN_VERSION = 1

_FORMAT = Attribute("format", str, "GGML block format of the matrix, such as Q4_K")
_COLUMNS = Attribute("columns", int, "columns of the matrix: whole blocks", minimum=1)
_EPSILON = Attribute("epsilon", float, "added to the variance")
_ACTIVATIONS = ("silu", "gelu")
_EXPERT_ACTIVATIONS = (
    *_ACTIVATIONS,
    *("clamped_silu", "relu_squared", "relu", "capped_silu", "silu_of_capped"),
)
_HEADS = (
    Attribute("layer", int, "the layer's index in the pool", minimum=0),
    Attribute("heads", int, "H, a multiple of G", minimum=1),
    Attribute("kv_heads", int, "G", minimum=1),
    Attribute("head_dim", int, "D", minimum=1),
)
_POSITIONS = Port("positions", "int32", "[T]", "each token's position in its own sequence")
_ROW_STARTS = Port(
    "row_starts", "int32", "[B + 1]", "row b has the tokens row_starts[b] to row_starts[b + 1] - 1"
)
_PAGE_TABLE = Port(
    "page_table", "int32", "[B, P]", "column p: page of the row's positions from p * page_size on"
)
_STATE_STARTS = Port(
    "state_starts", "int32", "[B]", "slot of the state that a row continues from; -1: none"
)
_STATE_SLOTS = Port(
    "state_slots", "int32", "[T]", "slot that the state after a token is written to; -1: none"
)
_STATES_SHAPE = "[slots, S]"
_STATES = (
    _ROW_STARTS,
    _STATE_STARTS,
    _STATE_SLOTS,
    Port("states", "float32", _STATES_SHAPE, "of every sequence"),
)
_STATES_WRITTEN = Port("states_written", "float32", _STATES_SHAPE, "the states")
_OFFSET = Attribute("offset", int, "where the layer's values begin in a state", minimum=0)
_POOL_SHAPE = "[L, pages, 2, G, page_size, D]"
_NORM_INPUTS = (
    Port("x", "float32", "[T, C]", "values"),
    Port("weight", "float32", "[W]", "factors of the normalized values"),
    Port("residual", "float32", "[T, C]", "added to x first", optional=True),
)
_NORM_OUTPUTS = (
    Port("y", "float32", "[T, C]", "normalized values"),
    Port("sum", "float32", "[T, C]", "x + residual", optional=True),
)


def _blocks(name: str, meaning: str, rows: str = "N", *, optional: bool = False) -> Port:
    return Port(name, "uint8", f"[{rows}, row_bytes]", meaning, optional)


def _bias(name: str, shape: str, meaning: str) -> Port:
    return Port(name, "float32", shape, meaning, optional=True)


def _products() -> tuple[Port, ...]:
    """Return blocks and bias of each of the three matrices of NormQuantMatMul, in order."""
    return tuple(
        port
        for index in range(3)
        for port in (
            _blocks(f"blocks_{index}", f"matrix {index}", f"N_{index}", optional=index > 0),
            _bias(f"bias_{index}", f"[N_{index}]", f"added to product {index}"),
        )
    )


_ALL = (
    Operator(
        "RowLookup",
        "rows[t] = dequantize(blocks)[ids[t]].",
        "",
        (_blocks("blocks", "the matrix"), Port("ids", "int32", "[T]", "rows to read, less than N")),
        (Port("rows", "float32", "[T, C]", "those rows"),),
        (_FORMAT, _COLUMNS),
    ),
    Operator(
        "RMSNorm",
        "sum = x + residual; y = sum / sqrt(mean(sum^2) + epsilon) * weight, the mean over each "
        "group of W adjacent values (W = C: over the row; W = D: over each head).",
        'Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019',
        _NORM_INPUTS,
        _NORM_OUTPUTS,
        (_EPSILON,),
    ),
    Operator(
        "LayerNorm",
        "sum = x + residual; y = (sum - mean(sum)) / sqrt(variance(sum) + epsilon) * weight, over "
        "each row (W = C).",
        'Ba, Kiros and Hinton, "Layer Normalization", 2016',
        _NORM_INPUTS,
        _NORM_OUTPUTS,
        (_EPSILON,),
    ),
    Operator(
        "QuantMatMul",
        "y = x @ dequantize(blocks).T + bias.",
        "",
        (
            Port("x", "float32", "[T, C]", "values"),
            _blocks("blocks", "the matrix"),
            _bias("bias", "[N]", "added to each row of the product"),
        ),
        (Port("y", "float32", "[T, N]", "the product"),),
        (
            _FORMAT,
            _COLUMNS,
            Attribute("rows", int, "N, if blocks are packed into panels; 0: all", 0, minimum=0),
        ),
    ),
    Operator(
        "GroupedQuantMatMul",
        "Multiplies each of `groups` equal slices of x with a matrix [N, C] of its own.",
        "",
        (
            Port("x", "float32", "[T, groups * C]", "the slices, concatenated"),
            _blocks("blocks", "the matrices, concatenated", "groups * N"),
        ),
        (Port("y", "float32", "[T, groups * N]", "the products, concatenated"),),
        (_FORMAT, _COLUMNS, Attribute("groups", int, "number of slices", minimum=1)),
    ),
    Operator(
        "NormQuantMatMul",
        "RMSNorm over whole rows (W = C), then a QuantMatMul of its result for each of one to "
        "three matrices; with an activation the only output is y_0 = activation(product 0) * "
        "product 1.",
        "",
        (*_NORM_INPUTS, *_products()),
        (
            Port("y_0", "float32", "[T, N_0]", "product 0, or the gated product"),
            Port("sum", "float32", "[T, C]", "x + residual", optional=True),
            Port("y_1", "float32", "[T, N_1]", "product 1", optional=True),
            Port("y_2", "float32", "[T, N_2]", "product 2", optional=True),
        ),
        (
            _EPSILON,
            _COLUMNS,
            Attribute("formats", str, "block format of each matrix, separated by spaces"),
            Attribute("rows", str, "N_0, N_1, N_2, separated by spaces"),
            Attribute("activation", str, "empty: none", "", ("", *_ACTIVATIONS)),
        ),
    ),
    Operator(
        "RotaryAngles",
        "angles = cosines, then sines, of positions * inverse_frequencies (in float64), times "
        "magnitude.",
        'Su et al., "RoFormer", 2021; magnitude as in YaRN (Peng et al., 2023)',
        (_POSITIONS, Port("inverse_frequencies", "float32", "[R / 2]", "radians per position")),
        (Port("angles", "float32", "[T, R]", "R / 2 cosines and R / 2 sines of each token"),),
        (Attribute("magnitude", float, "factor of both", 1.0),),
    ),
    Operator(
        "RotaryPageWrite",
        "Rotates the first R values of each head of q and k, and writes k (rotated) and v to the "
        "pages of their rows: keys at index 0, values at 1 of the pool's third axis.",
        'Su et al., "RoFormer", 2021',
        (
            Port("q", "float32", "[T, H * D]", "queries"),
            Port("k", "float32", "[T, G * D]", "keys"),
            Port("v", "float32", "[T, G * D]", "values"),
            _POSITIONS,
            _ROW_STARTS,
            _PAGE_TABLE,
            Port("angles", "float32", "[T, R]", "output of RotaryAngles; R = 0: no rotation"),
            Port("pool", "float16", _POOL_SHAPE, "keys and values of every layer"),
        ),
        (
            Port("q_rotated", "float32", "[T, H * D]", "queries, rotated"),
            Port("pool_written", "float16", _POOL_SHAPE, "the pool"),
        ),
        (
            *_HEADS,
            Attribute(
                "style",
                str,
                "pairs that are rotated: norm (2i, 2i + 1), neox (i, i + R / 2)",
                choices=("norm", "neox"),
            ),
        ),
        alias=("pool", "pool_written"),
    ),
    Operator(
        "PagedAttention",
        "Attention of each token over its row's pages: softmax(scale * q.k) @ v over the positions "
        "up to its own, with a window only the last `window` of them. With causal 0 over all "
        "positions of the row, with a window those up to window // 2 away. With a softcap the "
        "logits are softcap * tanh(logit / softcap). Head h reads key-value head h // (H / G).",
        'Vaswani et al., 2017; pages as in Kwon et al., "PagedAttention", 2023',
        (
            Port("q", "float32", "[T, H * D]", "queries, rotated"),
            Port("pool", "float16", _POOL_SHAPE, "contains the keys and values of these tokens"),
            _POSITIONS,
            _ROW_STARTS,
            _PAGE_TABLE,
            Port(
                "sinks",
                "float32",
                "[H]",
                "an additional logit in the softmax's divisor",
                optional=True,
            ),
        ),
        (Port("y", "float32", "[T, H * D]", "output of each head"),),
        (
            *_HEADS,
            Attribute("scale", float, "factor of the logits"),
            Attribute(
                "window",
                int,
                "positions that a token sees, including its own; 0: all",
                0,
                minimum=0,
            ),
            Attribute("softcap", float, "bound of the logits; 0: none", 0.0),
            Attribute("causal", int, "0: later positions of the row are seen too", 1, minimum=0),
        ),
    ),
    Operator(
        "CausalConvolution",
        "y[t, c] = activation(sum over k of weight[c, k] * x[t - K + 1 + k, c] + bias[c]) over a "
        "row's tokens; those before its first are the state, the last K - 1 inputs [K - 1, C], and "
        "zeros where the row begins. Added up in the order of k.",
        'depthwise and causal, as in Gu and Dao, "Mamba", 2023',
        (
            Port("x", "float32", "[T, C]", "values"),
            Port("weight", "float32", "[C, K]", "taps of each channel, the newest last"),
            _bias("bias", "[C]", "added to each channel"),
            *_STATES,
        ),
        (Port("y", "float32", "[T, C]", "convolved"), _STATES_WRITTEN),
        (_OFFSET, Attribute("activation", str, "empty: none", "", ("", "silu"))),
        alias=("states", "states_written"),
        on_gpu=False,
    ),
    Operator(
        "GatedDeltaNet",
        "For each head, token by token: S' = g S + k (b (v - (g S)^T k))^T, y = S'^T q / sqrt(D), "
        "with g = exp(decay * softplus(alpha + step_bias)), b = sigmoid(beta), and q and k divided "
        "by sqrt(sum of squares + epsilon). S [D, D] of all heads is the state; g is one factor of "
        "it all, or one for each of its rows.",
        'Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024; by rows as in Kimi Team, "Kimi '
        'Linear", 2025',
        (
            Port("x", "float32", "[T, (2G + H) * D]", "queries, keys (G heads) and values"),
            Port("alpha", "float32", "[T, H or H * D]", "of the gates"),
            Port("beta", "float32", "[T, H]", "logits of how much is corrected"),
            Port("decay", "float32", "[H]", "below zero"),
            Port("step_bias", "float32", "[H or H * D]", "added to alpha"),
            *_STATES,
        ),
        (Port("y", "float32", "[T, H * D]", "what the heads read"), _STATES_WRITTEN),
        (
            _OFFSET,
            Attribute("heads", int, "H, a multiple of G", minimum=1),
            Attribute("key_heads", int, "G", minimum=1),
            Attribute("head_dim", int, "D", minimum=1),
            _EPSILON,
            Attribute(
                "interleaved", int, "1: head h reads key head h // (H / G), 0: h % G", minimum=0
            ),
        ),
        alias=("states", "states_written"),
        on_gpu=False,
    ),
    Operator(
        "SelectiveScan",
        "For each channel of each head, token by token: h = exp(decay * s) h + s x input, "
        "y = h . output + skip * x, with s = softplus(steps + step_bias). h [N] of all channels of "
        "all heads, [H, D, N], is the state; H / G heads one after the other share an input and an "
        "output.",
        'Gu and Dao, "Mamba", 2023; with a decay of each head as in Dao and Gu, "Transformers are '
        'SSMs", 2024',
        (
            Port("x", "float32", "[T, H * D]", "values of the channels"),
            Port("steps", "float32", "[T, H]", "time steps, before softplus"),
            Port("input", "float32", "[T, G * N]", "what channels write to their states"),
            Port("output", "float32", "[T, G * N]", "what they read from them"),
            Port("decay", "float32", "[H, 1 or N]", "below zero, for a head or each value"),
            Port("skip", "float32", "[H]", "factor of x in y"),
            _bias("step_bias", "[H]", "added to steps"),
            *_STATES,
        ),
        (Port("y", "float32", "[T, H * D]", "what the channels read"), _STATES_WRITTEN),
        (
            _OFFSET,
            Attribute("heads", int, "H, a multiple of G", minimum=1),
            Attribute("groups", int, "G", minimum=1),
            Attribute("state_size", int, "N", minimum=1),
        ),
        alias=("states", "states_written"),
        on_gpu=False,
    ),
    Operator(
        "GatedActivation",
        "y = activation(gate) * up. silu(x) = x / (1 + exp(-x)); "
        "gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).",
        'Shazeer, "GLU Variants Improve Transformer", 2020',
        (
            Port("gate", "float32", "[T, F]", "input of the activation"),
            Port("up", "float32", "[T, F]", "factor of its result"),
        ),
        (Port("y", "float32", "[T, F]", "the product"),),
        (Attribute("activation", str, "activation function", choices=_ACTIVATIONS),),
    ),
    Operator(
        "MixtureOfExperts",
        "y = sum over the selected experts of share * down(activation(gate(x), up(x))). Selected "
        "are the `used` experts with the largest probability (softmax or sigmoid of the router's "
        "logits) + selection_bias; with groups, only from the `groups_used` groups with the "
        "largest sum of their best two. A share is the probability, renormalized over the selected "
        "experts if `renormalize`, times scale. clamped_silu(g, u) = g / (1 + exp(-1.702 g)) * "
        "(u + 1) with g at most 7 and u within -7 to 7; relu(g, u) = max(g, 0) * u; "
        "relu_squared(u) = max(u, 0)^2 has no gate. With u within plus or minus `limit`, "
        "capped_silu is silu(g) at most limit, and silu_of_capped silu(g at most limit), both "
        "times u. Where another activation has no `gate`, `up` holds it: F rows of gate before F "
        "of up, for each expert. Scales are factors of what the matrices give; a matrix has a "
        "bias or a scale.",
        'Shazeer et al., "Outrageously Large Neural Networks", 2017; Mixtral (Jiang et al., '
        "2024); DeepSeek-V3 (arXiv 2412.19437), section 2.1.2; gpt-oss model card, 2025",
        (
            Port("x", "float32", "[T, C]", "values"),
            Port("router", "float32", "[T, E]", "router logits of the experts"),
            _blocks("gate", "gate projections, concatenated", "E * F", optional=True),
            _blocks("up", "up projections, concatenated", "E * F"),
            _blocks("down", "down projections, concatenated", "E * C"),
            _bias("gate_bias", "[E, F]", "bias of the gate projections"),
            _bias("up_bias", "[E, F]", "bias of the up projections"),
            _bias("down_bias", "[E, C]", "bias of the down projections"),
            _bias("selection_bias", "[E]", "added to the probabilities for the selection only"),
            _bias("gate_scale", "[E]", "factor of the gate projections"),
            _bias("up_scale", "[E]", "factor of the up projections"),
            _bias("down_scale", "[E]", "factor of the down projections"),
        ),
        (Port("y", "float32", "[T, C]", "the sum"),),
        (
            Attribute("columns", int, "C", minimum=1),
            Attribute("hidden", int, "F", minimum=1),
            Attribute("formats", str, "block formats of the matrices, separated by spaces"),
            Attribute("used", int, "number of experts selected per token", minimum=1),
            Attribute("renormalize", int, "1: shares add up to scale", minimum=0),
            Attribute("activation", str, "activation function", choices=_EXPERT_ACTIVATIONS),
            Attribute("gating", str, "function of the logits", "softmax", ("softmax", "sigmoid")),
            Attribute("groups", int, "number of equal groups of experts", 1, minimum=1),
            Attribute("groups_used", int, "number of groups selected per token", 1, minimum=1),
            Attribute("scale", float, "factor of the shares", 1.0),
            Attribute("limit", float, "of the capped activations", 0.0),
        ),
    ),
)

OPERATORS: Mapping[str, Operator] = {operator.name: operator for operator in _ALL}
"""The operators by name."""
