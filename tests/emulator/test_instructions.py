"""One instruction each that the emulator lacks or gets wrong, as AMD's manuals define it."""

import ctypes
import mmap
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from tests.emulator.checkout import CPULLVMRenderer, dtypes, emu
from tests.emulator.instructions import Corrected
from tests.emulator.matrices import of_target

triton = pytest.importorskip("triton._C.libtriton")
amd, llvm = triton.amd, triton.llvm

llvm.init_targets()
KINDS = {
    "gfx1100": "rdna3",
    "gfx1201": "rdna4",
    "gfx942": "cdna",
    "gfx950": "cdna",
    "gfx908": "cdna",
}
RDNA, ALL = ("gfx1100", "gfx1201"), ("gfx1100", "gfx1201", "gfx942")
LDS_OF_8_KIB = 16 << 15


def lanes_of(target):
    return 64 if KINDS[target] == "cdna" else 32


def code_of(target, lines):
    text = f'.amdgcn_target "amdgcn-amd-amdhsa--{target}"\n.text\n' + "\n".join(lines) + "\n"
    elf = amd.assemble_amdgcn(text, target, "")
    (shoff,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQ", elf, shoff + one * size) for one in range(count)]
    for name, _, _, _, offset, length in sections:
        start = sections[names][4] + name
        if elf[start : elf.index(b"\0", start)] == b".text":
            return elf[offset : offset + length]
    raise AssertionError("no text")


def run(target, lines, registers=(1,), arrays=(), waves=1):
    """Registers [count, lanes] after a program. v0 is the lane, s[4:5], s[6:7] ... the arrays."""
    lanes = lanes_of(target)
    shared = mmap.mmap(-1, 4 * len(registers) * lanes * waves)
    result = np.frombuffer(shared, np.uint32).reshape(len(registers), lanes * waves)
    result[:] = 0xDEADBEEF
    store, add = (
        ("global_store_dword", "v_add_u32") if lanes == 64 else ("global_store_b32", "v_add_nc_u32")
    )
    mask = "s_mov_b64 exec, -1" if lanes == 64 else "s_mov_b32 exec_lo, -1"
    ends = [mask, "v_lshlrev_b32 v200, 2, v255"]
    for register in registers:
        ends += [f"{store} v200, v{register}, s[0:1]", f"{add} v200, {4 * lanes * waves}, v200"]
    lines = ["v_and_b32 v0, 0x3ff, v0", "v_mov_b32 v255, v0", *lines, *ends, "s_endpgm"]
    code = ctypes.create_string_buffer(code_of(target, lines) + bytes(64))
    user = []
    for array in (result, result, *arrays):
        user += [array.ctypes.data & 0xFFFFFFFF, array.ctypes.data >> 32]
    place = ctypes.addressof(code), len(code)
    call = (*place, 1, 1, 1, lanes * waves, 1, 1, 0, LDS_OF_8_KIB, 0, KINDS[target], user)
    emu.run_asm(*call)
    return result


def lane(target):
    return np.arange(lanes_of(target))


def same(got, expected):
    np.testing.assert_array_equal(got, np.asarray(expected).astype(np.uint32))


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32)


# DPP


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize(
    ("control", "reads"),
    [
        ("quad_perm:[1,0,3,2]", lambda n: n ^ 1),
        ("quad_perm:[2,3,0,1]", lambda n: n ^ 2),
        ("row_half_mirror", lambda n: n ^ 7),
        ("row_mirror", lambda n: n ^ 15),
        ("row_ror:4", lambda n: n & ~15 | n - 4 & 15),
    ],
)
def test_dpp_move_in_place(target, control, reads):
    got = run(
        target,
        [
            "v_add_u32 v1, 100, v0" if target == "gfx942" else "v_add_nc_u32 v1, 100, v0",
            f"v_mov_b32_dpp v1, v1 {control} row_mask:0xf bank_mask:0xf",
        ],
    )
    same(got[0], 100 + reads(lane(target)))


@pytest.mark.parametrize("target", ALL)
def test_dpp_without_a_source(target):
    """row_shr:1: the first of a row keeps what it has, or reads zero with bound_ctrl."""
    n = lane(target)
    first = n % 16 == 0
    for bound, without in (("", 7.0), (" bound_ctrl:1", 0.5)):
        got = run(
            target,
            [
                "v_cvt_f32_u32 v2, v0",
                "v_mov_b32 v1, 0x40e00000",
                "v_mov_b32 v3, 0.5",
                f"v_add_f32_dpp v1, v2, v3 row_shr:1 row_mask:0xf bank_mask:0xf{bound}",
            ],
        )
        same(got[0], bits(np.where(first, without, n - 0.5)))


@pytest.mark.parametrize("target", ALL)
def test_dpp_sum_in_place(target):
    """The destination is the shifted source: each lane reads what its neighbour had before."""
    n = lane(target)
    got = run(
        target,
        ["v_cvt_f32_u32 v1, v0", "v_add_f32_dpp v1, v1, v1 row_shr:1 row_mask:0xf bank_mask:0xf"],
    )
    same(got[0], bits(np.where(n % 16 == 0, n, 2 * n - 1)))


@pytest.mark.parametrize("target", ALL)
def test_dpp_of_lanes_that_are_off(target):
    n, even = lane(target), lane(target) % 2 == 0
    mask = "s_mov_b64 exec, 0x55555555" if target == "gfx942" else "s_mov_b32 exec_lo, 0x55555555"
    move = "v_mov_b32_dpp v1, v0 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf"
    on = even & (n < 32)
    same(run(target, ["v_mov_b32 v1, 99", mask, move])[0], np.full(n.size, 99))
    same(run(target, ["v_mov_b32 v1, 99", mask, move + " bound_ctrl:1"])[0], np.where(on, 0, 99))
    if target != "gfx942":
        same(run(target, ["v_mov_b32 v1, 99", mask, move + " fi:1"])[0], np.where(on, n + 1, 99))


def test_dpp_broadcasts_of_cdna():
    n = lane("gfx942")
    move = "v_mov_b32_dpp v1, v0 {} row_mask:{} bank_mask:0xf"

    def got(control, rows="0xf"):
        return run("gfx942", ["v_mov_b32 v1, 99", move.format(control, rows)])[0]

    same(got("row_bcast:15"), np.where(n < 16, 99, (n & ~15) - 1))
    same(got("row_bcast:15", "0xa"), np.where(n // 16 % 2, (n & ~15) - 1, 99))
    same(got("row_bcast:31"), np.where(n < 32, 99, 31))
    same(got("row_newbcast:3"), (n & ~15) + 3)


@pytest.mark.parametrize("target", RDNA)
def test_dpp8_is_refused(target):
    with pytest.raises(NotImplementedError):
        run(target, ["v_mov_b32_dpp v1, v0 dpp8:[7,6,5,4,3,2,1,0]"])


# Other lanes


@pytest.mark.parametrize("target", RDNA)
def test_permlane_with_a_literal(target):
    n = lane(target)
    got = run(
        target,
        ["s_mov_b32 s23, 0x76543210", "v_permlanex16_b32 v1, v0, s23, 0xfedcba98 op_sel:[1,0]"],
    )
    same(got[0], n ^ 16)
    got = run(
        target,
        [
            "s_mov_b32 s23, 0x89abcdef",
            "v_mov_b32 v1, v0",
            "v_permlane16_b32 v1, v1, s23, 0x01234567 op_sel:[1,0]",
        ],
    )
    same(got[0], n ^ 15)
    got = run(target, ["v_permlanex16_b32 v1, v0, -1, -1 op_sel:[1,0]"])
    same(got[0], np.where(n < 16, 31, 15))


@pytest.mark.parametrize("target", ALL)
def test_swizzle(target):
    n, wait = lane(target), "s_wait_dscnt 0x0" if target == "gfx1201" else "s_waitcnt lgkmcnt(0)"
    for pattern, reads in (
        (0x401F, n ^ 16),
        (0x0C1F, n ^ 3),
        (0x0007, n & ~31 | n & 7),
        (0x80B1, n ^ 1),
    ):
        same(run(target, [f"ds_swizzle_b32 v1, v0 offset:{pattern}", wait])[0], reads)


@pytest.mark.parametrize("target", ALL)
def test_bpermute_modulo_the_wave(target):
    n, wait = lane(target), "s_wait_dscnt 0x0" if target == "gfx1201" else "s_waitcnt lgkmcnt(0)"
    add = "v_add_u32" if target == "gfx942" else "v_add_nc_u32"
    lines = ["v_lshlrev_b32 v2, 2, v0", f"{add} v2, {4 * n.size * 3 + 4}, v2", "v_mov_b32 v1, v0"]
    same(run(target, [*lines, "ds_bpermute_b32 v1, v2, v1", wait])[0], (n + 1) % n.size)


def test_swap_of_rows():
    n = lane("gfx950")
    made = ["v_mov_b32 v1, v0", "v_add_u32 v2, 100, v0"]
    for distance in (16, 32):
        got = run("gfx950", [*made, f"v_permlane{distance}_swap_b32 v1, v2"], (1, 2))
        low = n & distance == 0
        same(got[0], np.where(low, n, 100 + n - distance))
        same(got[1], np.where(low, n + distance, 100 + n))


def test_transposed_load():
    """By the layout that Triton compiles for: its products on gfx950 are right with no other."""
    n = lane("gfx950")
    made = [
        "v_lshlrev_b32 v2, 3, v0",
        "v_lshlrev_b32 v3, 2, v0",
        "v_mul_u32_u24 v4, 0x10001, v3",
        "v_add_u32 v4, 0x10000, v4",
        "v_add_u32 v5, 0x20002, v4",
        "ds_write_b64 v2, v[4:5]",
        "s_waitcnt lgkmcnt(0)",
    ]
    got = run("gfx950", [*made, "ds_read_b64_tr_b16 v[6:7], v2", "s_waitcnt lgkmcnt(0)"], (6, 7))
    at = 64 * (n // 16) + n % 16
    same(got[0], at | at + 16 << 16)
    same(got[1], at + 32 | at + 48 << 16)


# Caches and waves


@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ("gfx1100", "buffer_gl0_inv"),
        ("gfx1100", "buffer_gl1_inv"),
        ("gfx1201", "global_inv scope:SCOPE_SE"),
        ("gfx1201", "global_wb scope:SCOPE_SYS"),
        ("gfx942", "buffer_inv sc1"),
        ("gfx942", "buffer_wbl2 sc1"),
    ],
)
def test_caches(target, instruction):
    same(run(target, ["v_mov_b32 v1, v0", instruction, "v_xor_b32 v1, 1, v1"])[0], lane(target) ^ 1)


def test_number_of_the_wave():
    got = run("gfx1201", ["s_bfe_u32 s20, ttmp8, 0x50019", "v_mov_b32 v1, s20"], waves=4)
    same(got[0], np.arange(128) // 32)


# Memory


def d16_cases():
    names = {
        "u16": lambda n: n + 5,
        "u8": lambda n: n + 5 & 255,
        "i8": lambda n: (n + 5 & 255 ^ 128) - 128 & 0xFFFF,
    }
    for target in ALL:
        load = "ds_read" if target == "gfx942" else "ds_load"
        for name, value in names.items():
            yield target, f"{load}_{name}_d16", value, False
            yield target, f"{load}_{name}_d16_hi", value, True


@pytest.mark.parametrize(("target", "instruction", "value", "high"), list(d16_cases()))
def test_half_of_a_register_from_lds(target, instruction, value, high):
    n, wait = lane(target), "s_wait_dscnt 0x0" if target == "gfx1201" else "s_waitcnt lgkmcnt(0)"
    store, add = (
        ("ds_write_b32", "v_add_u32") if target == "gfx942" else ("ds_store_b32", "v_add_nc_u32")
    )
    lines = [
        "v_lshlrev_b32 v2, 2, v0",
        "v_mul_u32_u24 v3, 0x10001, v0",
        f"{add} v3, 0xc50000, v3",
        f"{add} v3, 5, v3",
        "v_mov_b32 v1, 0x77778888",
        f"{store} v2, v3",
        wait,
    ]
    expected = value(n) if "16" not in instruction.split("_d16")[0] else n + 5
    got = run(target, [*lines, f"{instruction} v1, v2", wait])[0]
    same(got, 0x8888 | expected << 16 if high else 0x77770000 | expected)


@pytest.mark.parametrize("target", ALL)
def test_buffer(target):
    """Loads and stores through a descriptor, the last lanes beyond its end."""
    n = lane(target)
    data = np.arange(1, n.size + 9, dtype=np.uint32) * 0x01010101
    before, records = data.copy(), 4 * (n.size - 4)
    wait = "s_wait_loadcnt 0x0" if target == "gfx1201" else "s_waitcnt vmcnt(0)"
    soffset = "null" if target == "gfx1201" else "0"
    words = [
        "s_mov_b32 s8, s4",
        "s_and_b32 s9, s5, 0xffff",
        f"s_movk_i32 s10, {records}",
        "s_mov_b32 s11, 0x27000",
        "v_lshlrev_b32 v2, 2, v0",
    ]
    word, pair, byte, short = (
        ("dword", "dwordx2", "sbyte", "short")
        if target == "gfx942"
        else ("b32", "b64", "i8", "b16")
    )
    inside = n < n.size - 4
    value = data[: n.size].astype(np.int64)
    got = run(
        target,
        [*words, f"buffer_load_{word} v1, v2, s[8:11], {soffset} offen", wait],
        arrays=(data,),
    )
    same(got[0], np.where(inside, value, 0))
    lines = [f"buffer_load_{pair} v[4:5], v2, s[8:11], {soffset} offen offset:4", wait]
    got = run(target, [*words, *lines], (4, 5), arrays=(data,))
    shifted = [data[1 + one : 1 + one + n.size] for one in (0, 1)]
    same(got[0], np.where(n < n.size - 5, shifted[0], 0))
    same(got[1], np.where(n < n.size - 6, shifted[1], 0))
    got = run(
        target,
        [*words, f"buffer_load_{byte} v1, v2, s[8:11], {soffset} offen", wait],
        arrays=(data,),
    )
    same(got[0], np.where(inside, (value & 255 ^ 128) - 128 & 0xFFFFFFFF, 0))
    run(
        target,
        [*words, "v_mov_b32 v3, 7", f"buffer_store_{word} v3, v2, s[8:11], {soffset} offen"],
        arrays=(data,),
    )
    expected = before.copy()
    expected[: n.size][inside] = 7
    same(data, expected)
    run(
        target,
        [*words, "v_mov_b32 v3, -1", f"buffer_store_{short} v3, v2, s[8:11], {soffset} offen"],
        arrays=(data,),
    )
    expected[: n.size][inside] = 0xFFFF
    same(data, expected)


@pytest.mark.parametrize("target", ALL)
def test_structured_buffer_is_refused(target):
    soffset, word = "null" if target == "gfx1201" else "0", "dword" if target == "gfx942" else "b32"
    lines = [
        "s_mov_b32 s8, s4",
        "s_or_b32 s9, s5, 0x40000",
        "s_mov_b32 s10, 64",
        "s_mov_b32 s11, 0",
    ]
    with pytest.raises(NotImplementedError):
        run(
            target,
            [*lines, f"buffer_load_{word} v1, v0, s[8:11], {soffset} offen"],
            arrays=(np.zeros(64, np.uint32),),
        )


# Halves


@pytest.mark.parametrize("target", ALL)
def test_subnormal_halves(target):
    n = lane(target)
    halves = np.array([1 << one % 10 for one in n], np.uint16)
    shift = [
        "v_mov_b32 v4, 0x1999999a",
        "v_mul_hi_u32 v3, v4, v0",
        "v_mul_u32_u24 v3, 10, v3",
        "v_sub_u32 v3, v0, v3" if target == "gfx942" else "v_sub_nc_u32 v3, v0, v3",
        "v_lshlrev_b32 v2, v3, 1",
    ]
    half = ("v2.l", "v3.l") if target == "gfx1100" else ("v2", "v3")
    same(
        run(target, [*shift, f"v_cvt_f32_f16_e32 v1, {half[0]}"])[0], bits(halves.view(np.float16))
    )
    got = run(target, [*shift, "v_mov_b32 v3, 0", f"v_mul_f16_e32 {half[1]}, 1.0, {half[0]}"], (3,))
    same(got[0] & 0xFFFF, halves)
    back = "v_cvt_f16_f32_e32 " + ("v4.l, v1" if target == "gfx1100" else "v4, v1")
    got = run(target, [*shift, "v_mov_b32 v4, 0", f"v_cvt_f32_f16_e32 v1, {half[0]}", back], (4,))
    same(got[0] & 0xFFFF, halves)


def test_halves_in_upper_registers_of_cdna():
    n = lane("gfx942")
    x = n.astype(np.float16)
    made = [
        "v_cvt_f32_u32 v2, v0",
        "v_cvt_f16_f32 v3, v2",
        "v_mov_b32 v130, v3",
        "v_mov_b32 v2, 0x77770000",
        "v_mov_b32 v4, 0x77770000",
        "v_mov_b32 v131, 0x4200",
    ]
    got = run("gfx942", [*made, "v_cvt_f32_f16 v1, v130"])
    same(got[0], bits(x))
    got = run("gfx942", [*made, "v_add_f16 v140, v130, v131", "v_mov_b32 v1, v140"], (1, 2, 4))
    same(got[0] & 0xFFFF, (x + np.float16(3)).view(np.uint16))
    same(got[1:], np.full((2, 64), 0x77770000))
    got = run("gfx942", [*made, "v_cmp_lt_f16 vcc, v131, v130", "v_cndmask_b32 v1, 0, 1, vcc"])
    same(got[0], n > 3)
    got = run(
        "gfx942",
        [*made, "v_mov_b32 v135, 0x12345678", "v_lshrrev_b16 v136, 4, v135", "v_mov_b32 v1, v136"],
    )
    same(got[0] & 0xFFFF, np.full(64, 0x567))


# Matrices


def random_halves(shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float16)


@pytest.mark.parametrize("target", RDNA)
@pytest.mark.parametrize("c", ["0", "1.0", "v[8:15]", "v[128:135]"])
def test_wmma(target, c):
    """D = A B + C, where C is a constant or registers; v128 to v135 are full of sevens."""
    words = 8 if target == "gfx1100" else 4
    values = random_halves((2, 16, 16))
    a, b = values
    held = np.zeros((2, 32, 2 * words), np.float16)
    for n in range(32):
        half = slice(None) if words == 8 else slice(8 * (n // 16), 8 * (n // 16) + 8)
        held[0, n], held[1, n] = a[n % 16, half], b[n % 16, half]
    sources = [np.ascontiguousarray(one).view(np.uint32).copy() for one in held]
    wait = "s_wait_loadcnt 0x0" if target == "gfx1201" else "s_waitcnt vmcnt(0)"
    lines = [f"v_lshlrev_b32 v2, {2 + words.bit_length() - 1}, v0"]
    for part in range(0, words, 4):
        lines += [
            f"global_load_b128 v[{40 + part}:{43 + part}], v2, s[4:5] offset:{4 * part}",
            f"global_load_b128 v[{60 + part}:{63 + part}], v2, s[6:7] offset:{4 * part}",
        ]
    lines += [
        wait,
        *(f"v_mov_b32 v{r}, 0x40e00000" for r in range(128, 136)),
        *(f"v_mov_b32 v{r}, 2.0" for r in range(8, 16)),
        f"v_wmma_f32_16x16x16_f16 v[8:15], v[40:{39 + words}], v[60:{59 + words}], {c}",
    ]
    got = run(target, lines, range(8, 16), arrays=tuple(sources)).view(np.float32)
    product = (
        a.astype(np.float64) @ b.astype(np.float64).T
        + {"0": 0, "1.0": 1, "v[8:15]": 2, "v[128:135]": 7}[c]
    )
    register, lanes = np.arange(8)[:, None], np.arange(32)[None, :]
    interleaved = 2 * register + lanes // 16
    row = register + 8 * (lanes // 16) if target == "gfx1201" else interleaved
    np.testing.assert_allclose(got, product[row, lanes % 16], atol=1e-5)


@pytest.mark.parametrize("target", RDNA)
def test_wmma_of_halves_with_a_constant_is_refused(target):
    d, a, b = (
        ("v[8:15]", "v[40:47]", "v[60:67]")
        if target == "gfx1100"
        else ("v[8:11]", "v[40:43]", "v[60:63]")
    )
    with pytest.raises(NotImplementedError):
        run(target, [f"v_wmma_f16_16x16x16_f16 {d}, {a}, {b}, 0"])


@pytest.mark.parametrize("place", ["v", "a", "overlapping"])
@pytest.mark.parametrize(
    ("side", "depth", "kind"), [(32, 8, "f16"), (16, 16, "f16"), (32, 2, "f32"), (16, 4, "f32")]
)
def test_mfma(side, depth, kind, place):
    groups, count = 64 // side, side * side // 64
    elements = depth // groups
    values = np.random.default_rng(3).standard_normal((2, side, depth)).astype(np.float32)
    values = values.astype(np.float16) if kind == "f16" else values
    a, b = values
    n = np.arange(64)
    held = [
        np.stack([one[m % side, elements * (m // side) :][:elements] for m in n]) for one in (a, b)
    ]
    sources = [np.ascontiguousarray(one).view(np.uint32).reshape(64, -1).copy() for one in held]
    words = sources[0].shape[1]
    load = "global_load_dwordx2" if words == 2 else "global_load_dword"

    def at(first):
        return f"v[{first}:{first + words - 1}]" if words > 1 else f"v{first}"

    lines = [
        f"v_lshlrev_b32 v2, {1 + words}, v0",
        f"{load} {at(100)}, v2, s[4:5]",
        f"{load} {at(110)}, v2, s[6:7]",
        "s_waitcnt vmcnt(0)",
    ]
    first, c, added = 10, f"v[10:{9 + count}]", 2.0
    lines += [f"v_mov_b32 v{r}, 2.0" for r in range(10, 10 + count)]
    if place == "a":
        lines += [f"v_accvgpr_write_b32 a{r}, 4.0" for r in range(count)]
        name, c, added = f"a[0:{count - 1}]", f"a[0:{count - 1}]", 4.0
    elif place == "overlapping":
        first = 10 if side == 32 else 12  # Sixteen registers overlap whole or not at all.
        name = f"v[{first}:{first + count - 1}]"
    else:
        name, c, added = f"v[10:{9 + count}]", "0", 0.0
    lines += [
        f"v_mfma_f32_{side}x{side}x{depth}_{kind} {name}, {at(100)}, {at(110)}, {c}",
        "s_nop 15",
        "s_nop 15",
    ]
    if place == "a":
        lines += [f"v_accvgpr_read_b32 v{10 + r}, a{r}" for r in range(count)]
    got = run("gfx942", lines, range(first, first + count), arrays=tuple(sources)).view(np.float32)
    product = a.astype(np.float64) @ b.astype(np.float64).T + added
    register = np.arange(count)[:, None]
    row = (
        8 * (register // 4) + 4 * (n // 32) + register % 4
        if side == 32
        else 4 * (n // 16) + register
    )
    np.testing.assert_allclose(got, product[row, n % side], atol=1e-5)


def test_mfma_flushes_subnormal_halves_on_gfx90a_alone(monkeypatch):
    lines = [
        "v_mov_b32 v4, 0x00010001",
        "v_mov_b32 v5, 0x00010001",
        "v_mov_b32 v6, 0x3c003c00",
        "v_mov_b32 v7, 0x3c003c00",
        "v_mfma_f32_16x16x16_f16 v[8:11], v[4:5], v[6:7], 0",
        "s_nop 15",
    ]
    same(run("gfx942", lines, (8,))[0], np.full(64, bits(16 * 2.0**-24)))
    monkeypatch.setattr(of_target, "flushes_halves", True)
    same(run("gfx942", lines, (8,))[0], np.zeros(64))


def test_mfma_of_gfx908_accumulates_apart(monkeypatch):
    monkeypatch.setattr(of_target, "accumulates_apart", True)
    lines = [
        "v_mov_b32 v4, 1.0",
        "v_mov_b32 v5, 1.0",
        *(f"v_mov_b32 v{r}, 3.0" for r in range(8, 12)),
        *(f"v_accvgpr_write_b32 a{r}, 2.0" for r in range(8, 12)),
        "v_mfma_f32_16x16x4f32 a[8:11], v4, v5, a[8:11]",
        "s_nop 15",
        "v_accvgpr_read_b32 v1, a9",
    ]
    got = run("gfx908", lines, (1, 9))
    same(got, np.broadcast_to(bits([[6.0], [3.0]]), (2, 64)))


# The host's compiler


@pytest.mark.parametrize("target", ALL)
def test_functions_that_llvm_must_be_told_of(target):
    n = lane(target)
    lines = [
        "v_cvt_f32_u32 v2, v0",
        "v_sqrt_f32 v3, v2",
        "v_mul_f32 v4, 0.5, v2",
        "v_exp_f32 v4, v4",
        "v_rndne_f32 v5, v4",
        "v_log_f32 v6, v4",
        "v_rcp_f32 v7, v4",
        "v_floor_f32 v8, v4",
    ]
    got = run(target, lines, range(3, 9)).view(np.float32)
    power = np.exp2(n / 2)
    for one, expected in zip(
        got, (np.sqrt(n), power, np.rint(power), n / 2, 1 / power, np.floor(power)), strict=True
    ):
        np.testing.assert_allclose(one, expected, rtol=2e-6, atol=1e-6)


def test_programs_of_the_queue_stay_unmade():
    """No C compiler is needed: the device opens, and its kernels are LLVM's."""
    device = emu.Device["CPU"]
    assert isinstance(device.renderer, CPULLVMRenderer)
    assert dtypes.half in device.renderer.supported_dtypes()


def test_instructions_that_are_right_go_to_the_emulator():
    code = ctypes.create_string_buffer(code_of("gfx1100", ["v_add_f32 v1, v2, v3"]) + bytes(16))
    _, inst = emu._decode_at(ctypes.addressof(code), "rdna3")
    assert not isinstance(inst, (Corrected, SimpleNamespace))
