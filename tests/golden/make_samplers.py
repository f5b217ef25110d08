"""Write samplers.json: what llama.cpp's samplers leave of logits, and take greedily.

Run by hand from the root of the repository, where `pip install xllamacpp numpy` was done, whose
library has llama.cpp's C interface:

    PYTHONPATH=. python tests/golden/make_samplers.py

Sequence breakers are given as tokens, for no vocabulary is loaded.
"""

import ctypes
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.sampler_cases import (
    BREAKERS,
    DISTRIBUTIONS,
    GREEDY,
    SAID,
    SIZE,
    STEPS,
    flat_logits,
    logits,
)

NEUTRAL: Mapping[str, float] = {
    "temperature": 1.0,
    "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repeat_last_n": 64,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": 64,
}
DRY_OF_TOKENS = "_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"


class TokenData(ctypes.Structure):
    """llama_token_data."""

    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class TokenArray(ctypes.Structure):
    """llama_token_data_array."""

    _fields_ = (
        ("data", ctypes.POINTER(TokenData)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class Vector(ctypes.Structure):
    """std::vector of libstdc++."""

    _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("room", ctypes.c_void_p))


class Chain:
    """llama.cpp's samplers in their default order, as far as they come before the draw."""

    def __init__(self, library: ctypes.CDLL, given: Mapping[str, Any]) -> None:
        self._library = library
        p = {**NEUTRAL, **given}
        real, whole, size = ctypes.c_float, ctypes.c_int32, ctypes.c_size_t
        self._breakers = _vectors(p.get("breakers", BREAKERS))
        self._samplers = [
            self._made(
                "llama_sampler_init_penalties",
                whole(SIZE),
                whole(p["repeat_last_n"]),
                real(p["repetition_penalty"]),
                real(p["frequency_penalty"]),
                real(p["presence_penalty"]),
            ),
            self._made("llama_sampler_init_top_n_sigma", real(p["top_n_sigma"])),
            self._made("llama_sampler_init_top_k", whole(p["top_k"])),
            self._made("llama_sampler_init_typical", real(p["typical_p"]), size(0)),
            self._made("llama_sampler_init_top_p", real(p["top_p"]), size(0)),
            self._made("llama_sampler_init_min_p", real(p["min_p"]), size(0)),
            self._made(
                "llama_sampler_init_xtc",
                real(p["xtc_probability"]),
                real(p["xtc_threshold"]),
                size(0),
                ctypes.c_uint32(1),
            ),
            self._made(
                "llama_sampler_init_temp_ext",
                real(p["temperature"]),
                real(p["dynatemp_range"]),
                real(p["dynatemp_exponent"]),
            ),
        ]
        if p["dry_multiplier"]:
            dry = self._made(
                DRY_OF_TOKENS,
                real(p["dry_multiplier"]),
                real(p["dry_base"]),
                whole(p["dry_allowed_length"]),
                whole(p["dry_penalty_last_n"]),
                ctypes.byref(self._breakers[0]),
            )
            self._samplers.insert(1, dry)

    def accept(self, token: int) -> None:
        """Take in a token."""
        for sampler in self._samplers:
            self._library.llama_sampler_accept(sampler, ctypes.c_int32(token))

    def left(self, values: np.ndarray) -> dict[int, float]:
        """The tokens that are left and their probabilities, the likeliest first."""
        data = (TokenData * len(values))(
            *(TokenData(i, float(v), 0.0) for i, v in enumerate(values))
        )
        array = TokenArray(data, len(values), -1, False)
        for sampler in self._samplers:
            self._library.llama_sampler_apply(sampler, ctypes.byref(array))
        found = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
        found = sorted(((t, v) for t, v in found if v > -np.inf), key=lambda each: -each[1])
        weights = np.exp(np.array([v for _, v in found]) - found[0][1])
        weights /= weights.sum()
        return {t: round(float(w), 7) for (t, _), w in zip(found, weights, strict=True)}

    def _made(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        make = self._library[name]
        make.restype = ctypes.c_void_p
        return ctypes.c_void_p(make(*arguments))


def _vectors(rows: Sequence[Sequence[int]]) -> tuple[Vector, list[Any]]:
    """A vector of vectors of tokens, and what it points into."""
    arrays = [(ctypes.c_int32 * len(row))(*row) for row in rows]
    inner = (Vector * len(rows))()
    for vector, array in zip(inner, arrays, strict=True):
        _fill(vector, array)
    outer = Vector()
    _fill(outer, inner)
    return outer, [arrays, inner]


def _fill(vector: Vector, array: Any) -> None:
    vector.begin = ctypes.addressof(array)
    vector.end = vector.room = vector.begin + ctypes.sizeof(array)


def main() -> None:
    """Write samplers.json beside this file."""
    spec = find_spec("xllamacpp")
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.glob("xllamacpp*.so")
    library = ctypes.CDLL(str(path))
    library.llama_sampler_accept.argtypes = (ctypes.c_void_p, ctypes.c_int32)
    library.llama_sampler_apply.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    left, taken = [], []
    for case in DISTRIBUTIONS:
        chain = Chain(library, case)
        for token in SAID:
            chain.accept(token)
        left.append([list(chain.left(logits(seed)).items()) for seed in range(3)])
    for case in GREEDY:
        chain = Chain(library, {**case, "temperature": 0.0})
        for token in case.get("said", SAID):
            chain.accept(token)
        tokens: list[int] = []
        for step in range(STEPS):
            (token,) = chain.left(flat_logits(step))
            chain.accept(token)
            tokens.append(token)
        taken.append(tokens)
    assert max(map(max, taken)) < SIZE
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in left)
    text = f'{{"left": [\n{lines}\n],\n"taken": {json.dumps(taken)}}}\n'
    Path(__file__).with_name("samplers.json").write_text(text)


if __name__ == "__main__":
    main()
