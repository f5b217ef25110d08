"""The operators of the domain `com.rocmforge`, each said once: inputs, outputs and attributes.

Graphs are written and checked by it (pipelines.conversion.nodes, pipelines.validation.structure);
the NumPy definitions (runtime.ops.reference), the registrations for the CPU and for AMD GPUs
(runtime/ops/native) and docs/operators.md are held to it by tests/ops/test_schema.py.

In shapes T = tokens of the step, B = rows (requests), P = columns of the page table, L = layers,
H = query heads, G = key-value heads, D = head width, C = columns (`columns`), N = rows of a matrix,
W = values of a norm's weight, R = rotated values of a head, E = experts, F = values between an
expert's matrices (`hidden`).
"""

from collections.abc import Mapping

from runtime.ops.operator import Attribute, Operator, Port

DOMAIN = "com.rocmforge"
DOMAIN_VERSION = 1

_FORMAT = Attribute("format", str, "GGML block format of the matrix, such as Q4_K")
_COLUMNS = Attribute("columns", int, "columns of the matrix: whole blocks", minimum=1)
_EPSILON = Attribute("epsilon", float, "what keeps the divisor from zero")
_ACTIVATIONS = ("silu", "gelu")
_HEADS = (
    Attribute("layer", int, "the layer's place in the pool", minimum=0),
    Attribute("heads", int, "H, a multiple of G", minimum=1),
    Attribute("kv_heads", int, "G", minimum=1),
    Attribute("head_dim", int, "D", minimum=1),
)
_POSITIONS = Port("positions", "int32", "[T]", "each token's place in its own sequence")
_ROW_STARTS = Port("row_starts", "int32", "[B + 1]", "row b is the tokens from b to b + 1 of these")
_PAGE_TABLE = Port(
    "page_table", "int32", "[B, P]", "page of the positions p * page_size onward of each row"
)
_POOL_SHAPE = "[L, pages, 2, G, page_size, D]"
_NORM_INPUTS = (
    Port("x", "float32", "[T, C]", "values"),
    Port("weight", "float32", "[W]", "factors of the normed values"),
    Port("residual", "float32", "[T, C]", "what is added to x before", optional=True),
)
_NORM_OUTPUTS = (
    Port("y", "float32", "[T, C]", "normed"),
    Port("sum", "float32", "[T, C]", "x + residual", optional=True),
)


def _blocks(name: str, meaning: str, rows: str = "N", *, optional: bool = False) -> Port:
    return Port(name, "uint8", f"[{rows}, row_bytes]", meaning, optional)


def _bias(name: str, shape: str, meaning: str) -> Port:
    return Port(name, "float32", shape, meaning, optional=True)


def _products() -> tuple[Port, ...]:
    """Blocks and bias of the one to three matrices of NormQuantMatMul, in turn."""
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
        (_blocks("blocks", "the matrix"), Port("ids", "int32", "[T]", "rows to read, below N")),
        (Port("rows", "float32", "[T, C]", "those rows"),),
        (_FORMAT, _COLUMNS),
    ),
    Operator(
        "RMSNorm",
        "sum = x + residual; y = sum / sqrt(mean(sum^2) + epsilon) * weight, the mean over each "
        "group of W values that lie together (W = C: over the row; W = D: over each head).",
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
            Attribute("rows", int, "N, where blocks are packed into panels; 0: all", 0, minimum=0),
        ),
    ),
    Operator(
        "GroupedQuantMatMul",
        "Each of `groups` equal slices of x times a matrix [N, C] of its own.",
        "",
        (
            Port("x", "float32", "[T, groups * C]", "the slices side by side"),
            _blocks("blocks", "the matrices one after the other", "groups * N"),
        ),
        (Port("y", "float32", "[T, groups * N]", "the products side by side"),),
        (_FORMAT, _COLUMNS, Attribute("groups", int, "how many slices", minimum=1)),
    ),
    Operator(
        "NormQuantMatMul",
        "RMSNorm over whole rows (W = C), then a QuantMatMul of its result for each of one to "
        "three matrices; with an activation y_0 = activation(product 0) * product 1 and no more.",
        "",
        (*_NORM_INPUTS, *_products()),
        (
            Port("y_0", "float32", "[T, N_0]", "product 0, or what is gated"),
            Port("sum", "float32", "[T, C]", "x + residual", optional=True),
            Port("y_1", "float32", "[T, N_1]", "product 1", optional=True),
            Port("y_2", "float32", "[T, N_2]", "product 2", optional=True),
        ),
        (
            _EPSILON,
            _COLUMNS,
            Attribute("formats", str, "block format of each matrix, parted by spaces"),
            Attribute("rows", str, "N_0, N_1, N_2, parted by spaces"),
            Attribute("activation", str, "empty: none", "", ("", *_ACTIVATIONS)),
        ),
    ),
    Operator(
        "RotaryAngles",
        "angles = cosines, then sines, of positions * inverse_frequencies (in float64), times "
        "magnitude.",
        'Su et al., "RoFormer", 2021; magnitude as in YaRN (Peng et al., 2023)',
        (_POSITIONS, Port("inverse_frequencies", "float32", "[R / 2]", "radians a position")),
        (Port("angles", "float32", "[T, R]", "R / 2 cosines and R / 2 sines of each token"),),
        (Attribute("magnitude", float, "factor of both", 1.0),),
    ),
    Operator(
        "RotaryPageWrite",
        "Rotates the first R values of each head of q and k, and writes k (rotated) and v to the "
        "pages of their rows: keys at 0, values at 1 of the pool's third axis.",
        'Su et al., "RoFormer", 2021',
        (
            Port("q", "float32", "[T, H * D]", "queries"),
            Port("k", "float32", "[T, G * D]", "keys"),
            Port("v", "float32", "[T, G * D]", "values"),
            _POSITIONS,
            _ROW_STARTS,
            _PAGE_TABLE,
            Port("angles", "float32", "[T, R]", "of RotaryAngles; R = 0: no rotation"),
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
                "which pairs are rotated: norm (2i, 2i + 1), neox (i, i + R / 2)",
                choices=("norm", "neox"),
            ),
        ),
        alias=("pool", "pool_written"),
    ),
    Operator(
        "PagedAttention",
        "Causal attention of each token over its row's pages: softmax(scale * q.k) @ v over the "
        "positions up to its own, with a window only the last `window` of them. With a softcap the "
        "logits are softcap * tanh(logit / softcap). Head h reads key-value head h // (H / G).",
        'Vaswani et al., 2017; pages as in Kwon et al., "PagedAttention", 2023',
        (
            Port("q", "float32", "[T, H * D]", "queries, rotated"),
            Port("pool", "float16", _POOL_SHAPE, "with the keys and values of these tokens"),
            _POSITIONS,
            _ROW_STARTS,
            _PAGE_TABLE,
            Port("sinks", "float32", "[H]", "a logit more in each divisor", optional=True),
        ),
        (Port("y", "float32", "[T, H * D]", "what the heads read"),),
        (
            *_HEADS,
            Attribute("scale", float, "factor of the logits"),
            Attribute(
                "window", int, "positions that a token sees, its own included; 0: all", 0, minimum=0
            ),
            Attribute("softcap", float, "bound of the logits; 0: none", 0.0),
        ),
    ),
    Operator(
        "GatedActivation",
        "y = activation(gate) * up. silu(x) = x / (1 + exp(-x)); "
        "gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).",
        'Shazeer, "GLU Variants Improve Transformer", 2020',
        (
            Port("gate", "float32", "[T, F]", "what is activated"),
            Port("up", "float32", "[T, F]", "what it is multiplied with"),
        ),
        (Port("y", "float32", "[T, F]", "the product"),),
        (Attribute("activation", str, "which function", choices=_ACTIVATIONS),),
    ),
    Operator(
        "MixtureOfExperts",
        "The sum over the chosen experts of share * down(activation(gate(x), up(x))). Chosen are "
        "the `used` experts with the largest probability (softmax or sigmoid of the router's "
        "logits) + selection_bias, with groups only from the `groups_used` groups whose best two "
        "add up to the most; a share is the probability, renormalized over the chosen ones where "
        "asked, times scale. clamped_silu(g, u) = g / (1 + exp(-1.702 g)) * (u + 1) with g at most "
        "7 and u within -7 to 7.",
        'Shazeer et al., "Outrageously Large Neural Networks", 2017; Mixtral (Jiang et al., '
        "2024); DeepSeek-V3 (arXiv 2412.19437), section 2.1.2; gpt-oss model card, 2025",
        (
            Port("x", "float32", "[T, C]", "values"),
            Port("router", "float32", "[T, E]", "logits of the experts"),
            _blocks("gate", "gates of the experts, one after the other", "E * F"),
            _blocks("up", "the same of what is gated", "E * F"),
            _blocks("down", "the same of the way back", "E * C"),
            _bias("gate_bias", "[E, F]", "of the gates"),
            _bias("up_bias", "[E, F]", "of what is gated"),
            _bias("down_bias", "[E, C]", "of the way back"),
            _bias("selection_bias", "[E]", "added to the probabilities, only to choose"),
        ),
        (Port("y", "float32", "[T, C]", "the sum"),),
        (
            Attribute("columns", int, "C", minimum=1),
            Attribute("hidden", int, "F", minimum=1),
            Attribute("formats", str, "block formats of gate, up and down, parted by spaces"),
            Attribute("used", int, "experts chosen for a token", minimum=1),
            Attribute("renormalize", int, "1: shares add up to scale", minimum=0),
            Attribute("activation", str, "which", choices=(*_ACTIVATIONS, "clamped_silu")),
            Attribute("gating", str, "what makes probabilities", "softmax", ("softmax", "sigmoid")),
            Attribute("groups", int, "equal groups of experts", 1, minimum=1),
            Attribute("groups_used", int, "groups that are chosen from", 1, minimum=1),
            Attribute("scale", float, "factor of the shares", 1.0),
        ),
    ),
)

OPERATORS: Mapping[str, Operator] = {operator.name: operator for operator in _ALL}
"""Each operator by its name."""
