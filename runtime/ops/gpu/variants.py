"""The list of kernels: their arguments in order, and the values fixed at compile time.

Needs no Triton. A variant is one compiled kernel, named `kernel` or `kernel.variant`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runtime.ops.gpu.layouts import LAYOUTS, Layout

TARGETS: Mapping[str, int] = {
    **dict.fromkeys(("gfx908", "gfx90a", "gfx942", "gfx950"), 64),
    **dict.fromkeys(("gfx1030", "gfx1031", "gfx1032"), 32),
    **dict.fromkeys(("gfx1100", "gfx1101", "gfx1102", "gfx1103"), 32),
    **dict.fromkeys(("gfx1150", "gfx1151", "gfx1152", "gfx1153"), 32),
    **dict.fromkeys(("gfx1200", "gfx1201", "gfx1250"), 32),
}
"""Architectures that kernels are compiled for, and their wave sizes in threads.

Tile sizes depend on the wave size and on matrix cores alone, so all of a family have the same.
"""
OVERRIDES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys((f"gfx103{step}" for step in range(1, 7)), ("gfx1030", "10.3.0")),
    **dict.fromkeys(("gfx1101", "gfx1102"), ("gfx1100", "11.0.0")),
}
"""Architectures that run another's code, and HSA_OVERRIDE_GFX_VERSION that has ROCm load it.

ROCm loads code of a GPU's own name alone, unless that variable gives it another name. gfx1103 is
not here: it lacks what gfx1100's code uses.
"""

WITHOUT_MATRIX_CORES = frozenset({"gfx1030", "gfx1031", "gfx1032"})
DECODE_ROWS = 16
"""Query rows of a program of decode_attention: a row of the step with more is a prefill."""
HEAD_WIDTHS = (64, 128, 256, 576)
REST = {576: 64}
"""Columns of a head beyond a power of two: latent attention's rows are 512 and 64 wide."""
MAX_EXPERTS = 512
CANDIDATES = 64
"""Number of largest logits per row that a sampler gets: more than the default top_k of 50."""
ALIGNED = frozenset({"head_dim", "width", "elements", "columns"})
"""Integer arguments that are multiples of 16, as every pointer is one of 16 bytes."""


@dataclass(frozen=True)
class Variant:
    """One kernel as it is compiled for one architecture. Immutable.

    function: its name in runtime.ops.gpu.kernels.`module`, and its symbol when compiled;
    arguments: (name, Triton's type) in order; constants: by name, also those that only the
    compiler needs; warps: waves of a program; stages: of loads that run ahead in loops.
    """

    name: str
    module: str
    function: str
    arguments: tuple[tuple[str, str], ...]
    constants: Mapping[str, int | bool] = field(default_factory=dict)
    warps: int = 4
    stages: int = 1


def _arguments(text: str) -> tuple[tuple[str, str], ...]:
    """Parse "x *fp32, ..." to ("x", "*fp32"), ...; a type belongs to all names before it."""
    arguments: list[tuple[str, str]] = []
    for group in text.split(","):
        *names, kind = group.split()
        arguments += [(name, kind) for name in names]
    return tuple(arguments)


_SCALARS = _arguments("table_low table_high i64, unit_factor fp32, zero i32")
_ROUTED = _arguments("has_bias routed slots_per_row i32")
_STEP = _arguments("positions row_starts page_table *i32, sinks *fp32")
_HEADS = _arguments("heads kv_heads head_dim i32")
_PAGES = _arguments("page_columns page_size window has_sinks i32, scale softcap fp32")


def variants(arch: str) -> Iterator[Variant]:
    """Yield every kernel for an architecture; unknown architectures get the choices of gfx942."""
    for layout in LAYOUTS.values():
        yield from _of_layout(layout, arch)
    yield from _of_products()
    yield from _elementwise()
    for width in HEAD_WIDTHS:
        for is_whole in (True, False):
            yield from _attention(width, is_whole, arch)
    yield from _experts()
    yield from _standard()
    yield Variant(
        "candidates",
        "sampling",
        "candidates",
        _arguments("best_values *fp32, best_tokens *i32, values *fp32, tokens *i32")
        + _arguments("entries has_tokens i32"),
        {"BLOCK": 1024, "COUNT": CANDIDATES},
        warps=1,
    )


def _has_wide_waves(arch: str) -> bool:
    return TARGETS.get(arch, 64) == 64


def _of_layout(layout: Layout, arch: str) -> Iterator[Variant]:
    """Yield the products with weights in a layout, and the lookup of their rows."""
    planes = tuple(zip(("codes", "high", "subs", "units"), layout.pointer_types, strict=True))
    fixed: dict[str, int | bool] = {
        "LOW_BITS": layout.low_bits,
        "HIGH_BITS": layout.high_bits,
        "HAS_TABLE": layout.has_table,
        "IS_FLOAT4": layout.is_float4,
        "SUB_SCALES": layout.sub_scales,
        "HAS_MINIMUM": layout.has_minimum,
        "BLOCK_PARTS": layout.block_columns // 32,
    }
    output = _arguments("y x bias *fp32")
    yield Variant(
        f"row_lookup.{layout.name}",
        "matmul",
        "row_lookup",
        _arguments("y *fp32, ids *i32") + planes + _SCALARS + _arguments("rows parts i32"),
        {**fixed, "PARTS": 64},
        warps=1,
    )
    yield Variant(
        f"one_row.{layout.name}",
        "matmul",
        "one_row",
        (*output, *planes, ("experts", "*i32"), *_SCALARS, *_arguments("rows parts i32"), *_ROUTED),
        {**fixed, "ROWS": 8 if _has_wide_waves(arch) else 4, "PARTS": 64},
    )
    sorted_slots = _arguments("slots block_experts *i32")
    shape = _arguments("rows parts count i32")
    read = "fp32" if layout.unit == "fp32" else "fp16"
    many_output = _arguments(f"y *fp32, x *{read}, bias *fp32")
    exact = {"EXACT": layout.unit == "fp32"}
    few: dict[str, int | bool] = {"ROWS": 32, "COLUMNS": 64, "PARTS": 2}
    many: dict[str, int | bool] = {"ROWS": 128, "COLUMNS": 64, "PARTS": 2}
    if not _has_wide_waves(arch):
        few, many = few | {"PARTS": 1}, many | {"PARTS": 1}
        if arch in WITHOUT_MATRIX_CORES or layout.unit == "fp32":
            many = {"ROWS": 32, "COLUMNS": 64, "PARTS": 1}
    for name, tile in (("few_rows", few), ("many_rows", many)):
        yield Variant(
            f"{name}.{layout.name}",
            "matmul",
            "many_rows",
            (*many_output, *planes, *sorted_slots, *_SCALARS, *shape, *_ROUTED),
            {**fixed, **exact, **tile},
            stages=2 if _has_wide_waves(arch) else 1,
        )


def _of_products() -> Iterator[Variant]:
    """Yield the kernels before products of many rows, and after those that are split."""
    rounded = _arguments("rounded *fp16, x *fp32, elements i32")
    summed = _arguments("y partial *fp32, entries splits i32")
    yield Variant("round_activations", "matmul", "round_activations", rounded, {"BLOCK": 1024})
    yield Variant("sum_splits", "matmul", "sum_splits", summed, {"BLOCK": 1024})


def _elementwise() -> Iterator[Variant]:
    norm = _arguments(
        "y total x residual weight *fp32, width has_residual has_total i32, epsilon fp32"
    )
    yield Variant("rms_norm.narrow", "elementwise", "rms_norm", norm, {"BLOCK": 256}, warps=1)
    yield Variant("rms_norm.wide", "elementwise", "rms_norm", norm, {"BLOCK": 1024})
    yield Variant("layer_norm", "elementwise", "layer_norm", norm, {"BLOCK": 1024})
    yield Variant(
        "gated_activation",
        "elementwise",
        "gated_activation",
        _arguments("y gate up *fp32, elements kind i32"),
        {"BLOCK": 1024},
    )
    yield Variant(
        "rotary_angles",
        "elementwise",
        "rotary_angles",
        _arguments(
            "angles *fp32, positions *i32, inverse_frequencies *fp32, half i32, magnitude fp32"
        ),
        {"BLOCK": 64},
        warps=1,
    )
    yield Variant(
        "rotary_page_write",
        "pages",
        "rotary_page_write",
        (
            *_arguments("q_rotated *fp32, pool *fp16, q k v angles *fp32"),
            *_arguments("positions row_starts page_table *i32"),
            *_HEADS,
            *_arguments("rotary_dim rows page_columns page_size adjacent i32"),
        ),
        {"BLOCK": 256},
        warps=1,
    )


@dataclass(frozen=True)
class _Tile:
    """Query rows and keys that a program of an attention kernel takes at a time.

    piece: columns of the queries that it reads at a time; 0 if it holds them all.
    """

    rows: int
    keys: int
    warps: int
    piece: int = 0


def _prefill_tile(width: int, arch: str) -> _Tile:
    """Return the largest that fits the registers; `make test` checks that nothing is spilled."""
    if width > 256:
        return _Tile(32, 32, 8, 64) if _has_wide_waves(arch) else _Tile(16, 16, 8, 64)
    if arch in WITHOUT_MATRIX_CORES:
        return _Tile(16, 16, 8 if width == 256 else 4)
    if _has_wide_waves(arch):
        return _Tile(32, 32, 4) if width == 256 else _Tile(64, 64, 4)
    return {64: _Tile(64, 64, 8), 128: _Tile(32, 32, 8), 256: _Tile(32, 32, 8, 64)}[width]


def _decode_tile(width: int, arch: str) -> _Tile:
    if width > 256:
        return _Tile(DECODE_ROWS, 32 if _has_wide_waves(arch) else 16, 8, 64)
    if arch in WITHOUT_MATRIX_CORES or width == 256:
        return _Tile(DECODE_ROWS, 16, 8 if width == 256 else 4)
    return _Tile(DECODE_ROWS, 4096 // width, 4)


def _sizes(tile: _Tile) -> dict[str, int]:
    return {"ROWS": tile.rows, "KEYS": tile.keys, "PIECE": tile.piece}


def _attention(width: int, is_whole: bool, arch: str) -> Iterator[Variant]:
    """Yield the kernels for heads of `width` dimensions, or of fewer."""
    name = str(width) if is_whole else f"below_{width}"
    prefill, decode = _prefill_tile(width, arch), _decode_tile(width, arch)
    split = {"SPLIT": 256}
    rest = REST.get(width, 0)
    head = {"BLOCK": width - rest, "REST": rest, "WHOLE": is_whole}
    reads = _arguments("q *fp32, pool *fp16")
    partial = _arguments("y partial stats *fp32")
    yield Variant(
        f"decode_attention.{name}",
        "attention",
        "decode_attention",
        (*partial, *reads, *_STEP, *_HEADS, *_PAGES, ("row_states", "i32")),
        {**head, **_sizes(decode), **split},
        decode.warps,
        stages=2 if _has_wide_waves(arch) else 1,
    )
    yield Variant(
        f"merge_attention.{name}",
        "attention",
        "merge_attention",
        (
            *partial,
            *_arguments("positions row_starts *i32, sinks *fp32"),
            *_HEADS,
            *_arguments("splits window has_sinks row_states i32"),
        ),
        {**head, "ROWS": decode.rows, **split},
        warps=8 if width > 256 else 4,
    )
    yield Variant(
        f"prefill_attention.{name}",
        "attention",
        "prefill_attention",
        (("y", "*fp32"), *reads, *_STEP, ("rows", "i32"), *_HEADS, *_PAGES),
        {**head, **_sizes(prefill), "DECODE_ROWS": DECODE_ROWS},
        prefill.warps,
    )


def _experts() -> Iterator[Variant]:
    yield Variant(
        "route_tokens",
        "experts",
        "route_tokens",
        _arguments(
            "experts *i32, shares logits bias *fp32, expert_count used has_bias is_sigmoid i32"
        )
        + _arguments("groups groups_used renormalize i32, scale fp32"),
        {"EXPERTS": MAX_EXPERTS},
        warps=1,
    )
    yield Variant(
        "place_slots",
        "experts",
        "place_slots",
        _arguments("slots block_experts experts *i32, count expert_count block_rows blocks i32"),
        {"EXPERTS": MAX_EXPERTS, "SLOTS": 32},
    )
    yield Variant(
        "place_groups",
        "experts",
        "place_groups",
        _arguments("slots block_experts experts *i32, tokens groups block_rows blocks i32"),
        {"BLOCK": 256},
        warps=1,
    )
    yield Variant(
        "combine_answers",
        "experts",
        "combine_answers",
        _arguments("y answers shares *fp32, columns used i32"),
        {"BLOCK": 1024},
    )


def _standard() -> Iterator[Variant]:
    """Yield ONNX's own operators, which our execution provider computes with kernels."""
    block = {"BLOCK": 1024}
    yield Variant(
        "gather_rows",
        "standard",
        "gather_rows",
        _arguments("y x *fp32, indices *i32, rows row_size i32"),
        block,
    )
    yield Variant(
        "row_maximum", "standard", "row_maximum", _arguments("y x *fp32, row_size i32"), block
    )
    for given in ("fp32", "i32"):
        yield Variant(
            f"map_values.{given}",
            "standard",
            "map_values",
            _arguments(f"y *fp32, x *{given}, size kind i32, low high fp32"),
            block,
        )
    yield Variant(
        "map_pairs",
        "standard",
        "map_pairs",
        _arguments("y a b *fp32, size kind i32")
        + _arguments("a_inner a_repeat a_outer b_inner b_repeat b_outer i32"),
        block,
    )
