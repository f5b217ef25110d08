"""GGUF files parsed, broken in one or a few places, and written again."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.gguf.header import ARRAY, SCALARS, STRING

ALIGNMENT = 32
NUMBERS = (0, 1, 2, 3, 7, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
REALS = (0.0, -1.0, 1e-38, 1e38, float("nan"), float("inf"), float("-inf"), 0.5)
TEXTS = (b"", b"x", b"llama", b"gpt2", b"\xff\xfe", b"a" * 5000, "é漢\U0001f600".encode(), b"\0")
NEW_KEYS = (
    b"split.count",
    b"general.alignment",
    b"tokenizer.ggml.add_bos_token",
    b"tokenizer.ggml.eot_token_id",
)


@dataclass
class Parts:
    """A parsed GGUF; everything may be made wrong. Owned by the thread that mutates it."""

    values: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    """Key, type and payload."""
    tensors: list[tuple[bytes, list[int], int, int]] = field(default_factory=list)
    """Name, dimensions as the file has them, type and offset."""
    data: bytes = b""
    extra_values: int = 0
    extra_tensors: int = 0
    """What the counts claim beyond what there is."""

    def written(self) -> bytes:
        """The file."""
        counts = (len(self.tensors) + self.extra_tensors, len(self.values) + self.extra_values)
        out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, *(n % 2**64 for n in counts)))
        for key, kind, payload in self.values:
            out += _text(key) + struct.pack("<I", kind) + payload
        for name, shape, kind, offset in self.tensors:
            out += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            out += struct.pack("<IQ", kind, offset)
        out += bytes(-len(out) % ALIGNMENT)
        return bytes(out) + self.data

    @classmethod
    def of(cls, content: bytes) -> "Parts":
        """Take a whole, sane file of little scalars and flat arrays apart."""
        reader = _Reader(content)
        tensors, values = struct.unpack("<QQ", reader.take(24)[8:])
        parts = cls()
        for _ in range(values):
            key, kind = reader.text(), reader.number("<I")
            start = reader.at
            reader.skip_value(kind)
            parts.values.append((key, kind, content[start : reader.at]))
        for _ in range(tensors):
            name, count = reader.text(), reader.number("<I")
            shape = [reader.number("<Q") for _ in range(count)]
            parts.tensors.append((name, shape, reader.number("<I"), reader.number("<Q")))
        parts.data = content[-(-reader.at // ALIGNMENT) * ALIGNMENT :]
        return parts


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        self.at += count
        return bytes(self.content[self.at - count : self.at])

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def text(self) -> bytes:
        return self.take(self.number("<Q"))

    def skip_value(self, kind: int) -> None:
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            of, count = self.number("<I"), self.number("<Q")
            for _ in range(count):
                self.skip_value(of)
        else:
            self.take(SCALARS[kind].size)


def _text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def mutated(content: bytes, seed: int) -> bytes:
    """The file broken in one to three places; the same for the same seed."""
    draw = random.Random(seed)
    parts = Parts.of(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        draw.choice(MUTATIONS)(parts, draw)
    broken = bytearray(parts.written())
    if draw.random() < 0.15:
        for _ in range(draw.randint(1, 8)):
            broken[draw.randrange(len(broken) - len(parts.data) or 1)] = draw.randrange(256)
    if draw.random() < 0.15:
        del broken[draw.randrange(len(broken)) :]
    return bytes(broken)


def _scalar(kind: int, draw: random.Random) -> bytes:
    """A scalar of that type, most often an odd one."""
    layout = SCALARS[kind]
    if layout.format in ("<f", "<d"):
        return struct.pack(layout.format, draw.choice(REALS))
    bits = 8 * layout.size
    number = draw.choice((*NUMBERS, draw.randrange(1 << bits))) % (1 << bits)
    return number.to_bytes(layout.size, "little")


def _value(draw: random.Random) -> tuple[int, bytes]:
    """Any type with a payload that fits it, or one that does not."""
    kind = draw.choice((*SCALARS, STRING, ARRAY, 13, 2**32 - 1))
    if kind in SCALARS:
        return kind, _scalar(kind, draw)
    if kind == STRING:
        return kind, _text(draw.choice(TEXTS))
    of = draw.choice((*SCALARS, STRING, ARRAY, 99))
    count = draw.choice((0, 1, 3, 30))
    claimed = draw.choice((count, count, 2**24, 2**62))
    each = b"".join(
        _scalar(of, draw) if of in SCALARS else _text(draw.choice(TEXTS)) for _ in range(count)
    )
    return ARRAY, struct.pack("<IQ", of, claimed) + each


def _retype(parts: Parts, draw: random.Random) -> None:
    at = draw.randrange(len(parts.values))
    parts.values[at] = (parts.values[at][0], *_value(draw))


def _extreme(parts: Parts, draw: random.Random) -> None:
    """Another value of the same type, of any key that holds a scalar."""
    scalars = [at for at, (_, kind, _) in enumerate(parts.values) if kind in SCALARS]
    at = draw.choice(scalars)
    key, kind, _ = parts.values[at]
    parts.values[at] = (key, kind, _scalar(kind, draw))


def _cut_value(parts: Parts, draw: random.Random) -> None:
    """Overwrite some bytes of a payload: lengths of strings and arrays, entries of arrays."""
    at = draw.randrange(len(parts.values))
    key, kind, payload = parts.values[at]
    changed = bytearray(payload)
    start = draw.choice((0, 4, draw.randrange(len(payload) or 1)))
    patch = draw.choice((b"\xff" * 8, bytes(8), draw.randbytes(draw.randint(1, 8))))
    changed[start : start + len(patch)] = patch[: max(0, len(payload) - start)]
    parts.values[at] = (key, kind, bytes(changed))


def _drop_value(parts: Parts, draw: random.Random) -> None:
    del parts.values[draw.randrange(len(parts.values))]


def _add_value(parts: Parts, draw: random.Random) -> None:
    """A key twice, or one that is new."""
    key = draw.choice((*NEW_KEYS, draw.choice(parts.values)[0]))
    parts.values.insert(draw.randrange(len(parts.values)), (key, *_value(draw)))


def _shorter_array(parts: Parts, draw: random.Random) -> None:
    """An array of scalars that ends early, so that it does not fit the others."""
    arrays = [
        at
        for at, (_, kind, payload) in enumerate(parts.values)
        if kind == ARRAY and int.from_bytes(payload[:4], "little") in SCALARS
    ]
    if not arrays:
        return
    at = draw.choice(arrays)
    key, kind, payload = parts.values[at]
    of, count = struct.unpack("<IQ", payload[:12])
    fewer = draw.randrange(count + 1)
    kept = payload[12 : 12 + fewer * SCALARS[of].size]
    parts.values[at] = (key, kind, struct.pack("<IQ", of, fewer) + kept)


def _count(parts: Parts, draw: random.Random) -> None:
    extra = draw.choice((-1, 1, 100, 2**31, 2**60, 2**63))
    if draw.random() < 0.5:
        parts.extra_values = extra
    else:
        parts.extra_tensors = extra


def _tensor(parts: Parts, draw: random.Random) -> None:
    """Another name, shape, type or offset."""
    at = draw.randrange(len(parts.tensors))
    name, shape, kind, offset = parts.tensors[at]
    what = draw.choice(("name", "shape", "kind", "offset", "order"))
    if what == "name":
        name = draw.choice((b"", b"x", name + b"s", draw.choice(parts.tensors)[0], b"\xff"))
    elif what == "shape":
        shape = [draw.choice((*NUMBERS, each)) for each in shape] + [1] * draw.choice((0, 0, 1, 4))
    elif what == "order":
        shape = shape[::-1]
    elif what == "kind":
        kind = draw.choice((*range(42), 2**32 - 1))
    else:
        other = draw.choice(parts.tensors)[3]
        offset = draw.choice((other, other + ALIGNMENT, offset + 1, len(parts.data), *NUMBERS))
    parts.tensors[at] = (name, shape, kind, offset)


def _drop_tensor(parts: Parts, draw: random.Random) -> None:
    del parts.tensors[draw.randrange(len(parts.tensors))]


def _add_tensor(parts: Parts, draw: random.Random) -> None:
    name, shape, kind, offset = draw.choice(parts.tensors)
    twice = draw.choice((name, name + b".extra", b"blk.99.attn_q.weight"))
    parts.tensors.append((twice, shape, kind, offset))


def _spoil_data(parts: Parts, draw: random.Random) -> None:
    """Numbers that are none, over some of the weights."""
    at = draw.randrange(len(parts.data))
    patch = draw.choice((b"\xff", b"\x7f", b"\x00")) * draw.choice((4, 400))
    parts.data = parts.data[:at] + patch + parts.data[at + len(patch) :]


MUTATIONS: tuple[Callable[[Parts, random.Random], None], ...] = (
    _retype,
    _extreme,
    _extreme,
    _extreme,
    _cut_value,
    _cut_value,
    _drop_value,
    _add_value,
    _shorter_array,
    _count,
    _tensor,
    _tensor,
    _tensor,
    _drop_tensor,
    _add_tensor,
    _spoil_data,
)
