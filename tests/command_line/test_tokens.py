"""Token sequences that `rocmforge score` accepts."""

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidRequest
from runtime.scoring import read_tokens


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_integers_of_any_width_are_token_ids(tmp_path: Path, dtype: type[np.integer]) -> None:
    np.save(tmp_path / "tokens.npy", np.array([1, 2, 3], dtype=dtype))
    tokens = read_tokens(tmp_path / "tokens.npy")
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, 2]]),
        np.array([1.5]),
        np.array([], dtype=np.int32),
        np.array([-1]),
        np.array([2**40]),
        np.array([None]),
    ],
    ids=["two axes", "fractions", "empty", "negative", "too large", "objects"],
)
def test_anything_else_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "tokens.npy", array)
    with pytest.raises(InvalidRequest, match=r"tokens\.npy"):
        read_tokens(tmp_path / "tokens.npy")


def test_garbage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens.npy").write_bytes(b"no array")
    with pytest.raises(InvalidRequest, match=r"tokens\.npy"):
        read_tokens(tmp_path / "tokens.npy")
