"""An AMD GPU's instructions in the place of a card: code objects run by tinygrad's emulator.

As a plugin of pytest (`-p tests.emulator.card`, by `make emulate`) it takes the place of
tests/ops/gpu/card.py, so that the tests of the kernels run on it. ROCMFORGE_EMULATE names the
architecture.
"""

import ctypes
import hashlib
import mmap
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from tests.emulator import instructions  # noqa: F401  installs the corrections
from tests.emulator.checkout import emu
from tests.emulator.matrices import of_target

TARGET = os.environ.get("ROCMFORGE_EMULATE", "gfx1100")
KINDS = {"gfx11": "rdna3", "gfx12": "rdna4", "gfx9": "cdna"}
KIND = next(kind for start, kind in KINDS.items() if TARGET.startswith(start))
LANES = 64 if KIND == "cdna" else 32
CACHE = Path(__file__).parents[2] / "build" / "emulated"
"""Folder of code objects, by target and by the content of the kernels' sources."""
FORMATS = {"i32": "<i", "i64": "<q", "fp32": "<f"}
GUARD = 4096
"""Bytes around each array that a kernel must leave as they are."""

of_target.flushes_halves = TARGET == "gfx90a"
of_target.accumulates_apart = TARGET == "gfx908"
sys.modules["tests.ops.gpu.card"] = sys.modules[__name__]


def cache_folder():
    """A folder for this target and these sources."""
    from runtime.ops.gpu import build

    digest = hashlib.sha256()
    for source in sorted(Path(build.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    folder = CACHE / f"{TARGET}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def code_object(variant):
    path = cache_folder() / f"{variant.name}.pkl"
    if not path.is_file():
        from runtime.ops.gpu.build import compiled

        made = compiled(variant, "hip", TARGET, LANES)
        kept = {
            "hsaco": made.asm["hsaco"],
            "asm": made.asm["amdgcn"],
            "shared": made.metadata.shared,
            "name": made.metadata.name,
            "warps": variant.warps,
        }
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(kept))
        part.rename(path)
    return pickle.loads(path.read_bytes())


def parsed(elf):
    """Segments (address, offset, bytes, bytes in memory), symbols, and the metadata note."""
    (phoff, shoff) = struct.unpack_from("<QQ", elf, 32)
    phentsize, phnum, shentsize, shnum, _names = struct.unpack_from("<HHHHH", elf, 54)
    segments = []
    for one in range(phnum):
        kind, _, offset, address, _, size, whole, _ = struct.unpack_from(
            "<IIQQQQQQ", elf, phoff + one * phentsize
        )
        if kind == 1:
            segments.append((address, offset, size, whole))
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", elf, shoff + one * shentsize) for one in range(shnum)
    ]
    symbols, note = {}, None
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind in (2, 11):
            for at in range(offset, offset + size, 24):
                name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", elf, at)
                start = sections[link][4] + name
                symbols[elf[start : elf.index(b"\0", start)].decode()] = value
        assert kind != 4 or size == 0, "relocations"
        if kind == 7:
            name_size, size = struct.unpack_from("<II", elf, offset)
            start = offset + 12 + (name_size + 3) // 4 * 4
            note = msgspec.msgpack.decode(elf[start : start + size])
    return segments, symbols, note


class Kernel:
    """A code object in memory, ready to run."""

    loaded: ClassVar[dict[str, "Kernel"]] = {}

    def __init__(self, variant):
        made = code_object(variant)
        self.name, self.arguments = variant.name, variant.arguments
        self.threads = made["warps"] * LANES
        segments, symbols, note = parsed(made["hsaco"])
        top = max(address + whole for address, _, _, whole in segments)
        self.image = image = mmap.mmap(-1, (top + 8191) // 4096 * 4096)
        for address, offset, size, _ in segments:
            image[address : address + size] = made["hsaco"][offset : offset + size]
        at = symbols[made["name"] + ".kd"]
        group, self.private, self.kernarg = struct.unpack_from("<III", image, at)
        (entry,) = struct.unpack_from("<q", image, at + 16)
        _, _, rsrc2 = struct.unpack_from("<III", image, at + 44)
        self.properties, preload = struct.unpack_from("<HH", image, at + 56)
        self.preloaded, self.preload_at = preload & 0x7F, preload >> 7
        self.users = rsrc2 >> 1 & 31
        lds = group + made["shared"]
        self.rsrc2 = rsrc2 & ~(0x1FF << 15) | -(-lds // 512) << 15
        base = ctypes.addressof(ctypes.c_char.from_buffer(image))
        self.entry = base + at + entry + (256 if preload else 0)
        meta = note["amdhsa.kernels"][0]
        assert meta[".max_flat_workgroup_size"] >= self.threads, self.name
        assert meta[".wavefront_size"] == LANES, self.name
        self.parameters = meta[".args"]

    @classmethod
    def of(cls, variant):
        if variant.name not in cls.loaded:
            cls.loaded[variant.name] = cls(variant)
        return cls.loaded[variant.name]

    def run(self, grid, values):
        """Values in the arguments' order: addresses for pointers, and numbers."""
        grid = (*grid, 1, 1)[:3]
        memory = ctypes.create_string_buffer(max(self.kernarg, 16) + 64)
        start = (ctypes.addressof(memory) + 63) // 64 * 64

        def put(parameter, format, value):
            assert struct.calcsize(format) == parameter[".size"], (self.name, parameter)
            ctypes.memmove(
                start + parameter[".offset"], struct.pack(format, value), parameter[".size"]
            )

        hidden = {
            f"hidden_block_count_{axis}": ("<I", n) for axis, n in zip("xyz", grid, strict=True)
        }
        hidden |= {
            f"hidden_group_size_{axis}": ("<H", n)
            for axis, n in zip("xyz", (self.threads, 1, 1), strict=True)
        }
        hidden |= {f"hidden_remainder_{axis}": ("<H", 0) for axis in "xyz"}
        visible = [one for one in self.parameters if not one[".value_kind"].startswith("hidden")]
        assert len(visible) == len(self.arguments) + 2, self.name  # Triton's two scratch pointers
        for parameter, (_, kind), value in zip(visible, self.arguments, values, strict=False):
            is_pointer = kind.startswith("*")
            assert (parameter[".value_kind"] == "global_buffer") == is_pointer, (
                self.name,
                parameter,
            )
            put(parameter, "<Q" if is_pointer else FORMATS[kind], value)
        for parameter in self.parameters:
            if parameter[".value_kind"] in hidden:
                put(parameter, *hidden[parameter[".value_kind"]])
        packet = ctypes.create_string_buffer(64)
        struct.pack_into(
            "<HHHHHHIII",
            packet,
            0,
            0,
            3,
            self.threads,
            1,
            1,
            0,
            grid[0] * self.threads,
            grid[1],
            grid[2],
        )
        user = []
        for bit, words in enumerate(
            (
                (0,) * 4,
                halves(ctypes.addressof(packet)),
                (0, 0),
                halves(start),
                (0, 0),
                (0, 0),
                (0,),
            )
        ):
            if self.properties >> bit & 1:
                user += words
        user += (ctypes.c_uint32 * self.preloaded).from_address(start + 4 * self.preload_at)
        assert len(user) <= self.users, self.name
        user += [0] * (self.users - len(user))
        emu.run_asm(
            self.entry, 0, *grid, self.threads, 1, 1, start, self.rsrc2, self.private, KIND, user
        )


def halves(address):
    return address & 0xFFFFFFFF, address >> 32


def launch(variant, grid, arguments):
    """What tests/ops/gpu calls: arrays and numbers, None for a null pointer."""
    kept, values = {}, []
    for array, (_, kind) in zip(arguments, variant.arguments, strict=True):
        if not kind.startswith("*") or array is None:
            values.append(array or 0)
            continue
        if id(array) not in kept:
            assert array.flags.c_contiguous
            whole = np.full(array.nbytes + 2 * GUARD + 256, 0xFF, np.uint8)
            at = GUARD + -(whole.ctypes.data + GUARD) % 256
            whole[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
            kept[id(array)] = array, whole, at
        _, whole, at = kept[id(array)]
        values.append(whole.ctypes.data + at)
    Kernel.of(variant).run(grid, values)
    for array, whole, at in kept.values():
        guards = whole[:at], whole[at + array.nbytes :]
        assert all((guard == 0xFF).all() for guard in guards), (
            f"{variant.name} wrote outside an array"
        )
        if array.flags.writeable:
            array.reshape(-1).view(np.uint8)[:] = whole[at : at + array.nbytes]
