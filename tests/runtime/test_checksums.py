"""Checksums say whether bytes are those that were written, whatever was changed in them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checksums import CHUNK, Checksums, ChecksumsOf, read_through

CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, bits reversed. Source: RFC 3720, appendix B.4."""


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CASTAGNOLI if crc & 1 else 0)
    return crc


def random_bytes(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def test_the_definition_of_crc_is_that_of_its_test_vector() -> None:
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


@given(st.binary(min_size=1, max_size=300))
def test_a_checksum_is_four_crcs_of_every_fourth_word(data: bytes) -> None:
    whole = len(data) // 32 * 32
    words = [data[at : at + 8] for at in range(0, whole, 8)]
    lanes = [b"".join(words[lane::4]) for lane in range(4)]
    lanes[0] += data[whole:]
    (sums,) = Checksums.of(np.frombuffer(data, np.uint8)).sums
    assert sums.tolist() == [crc32c(lane) for lane in lanes]


@given(st.integers(0, 3 * CHUNK - 2), st.integers(0, 7))
def test_a_flipped_bit_is_found_in_its_chunk(place: int, bit: int) -> None:
    data = random_bytes(3 * CHUNK - 1)
    checksums = Checksums.of(data)
    assert checksums.damaged(data) is None
    data[place] ^= np.uint8(1 << bit)
    assert checksums.damaged(data) == place // CHUNK * CHUNK
    chunk = place // CHUNK
    assert checksums.damaged(data, [each for each in range(3) if each != chunk]) is None


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=60), st.integers(0, 100))
def test_pieces_give_the_checksums_of_the_whole(groups: list[int], rest: int) -> None:
    sizes = [32 * count for count in groups] + [rest]
    data = random_bytes(sum(sizes))
    adding = ChecksumsOf()
    at = 0
    for size in sizes:
        adding.add(data[at : at + size])
        at += size
    found, expected = adding.result(), Checksums.of(data)
    assert found.size == expected.size
    np.testing.assert_array_equal(found.sums, expected.sums)


def test_stored_checksums_come_back_and_damaged_ones_do_not() -> None:
    checksums = Checksums.of(random_bytes(2 * CHUNK + 5))
    stored = checksums.encode()
    assert len(stored) == Checksums.encoded_size(checksums.size)
    back = Checksums.decode(stored)
    assert back is not None
    assert back.size == checksums.size
    np.testing.assert_array_equal(back.sums, checksums.sums)
    for place in range(len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= 4
        assert Checksums.decode(bytes(damaged)) is None
    assert Checksums.decode(stored[:-16]) is None
    assert Checksums.decode(b"") is None


@pytest.mark.parametrize("size", [1, CHUNK, 100 * CHUNK])
def test_a_look_at_parts_takes_in_both_ends(size: int) -> None:
    checksums = Checksums(size, np.zeros((-(-size // CHUNK), 4), np.uint32))
    spread = checksums.spread()
    assert (spread[0], spread[-1]) == (0, len(checksums.sums) - 1)
    assert len(spread) <= 9


def test_a_file_is_read_once_for_both_hashes(tmp_path: Path) -> None:
    data = random_bytes(2 * CHUNK + 77)
    (tmp_path / "file").write_bytes(data.tobytes())
    with (tmp_path / "file").open("rb") as file:
        sha256, checksums = read_through(file)
    assert sha256 == hashlib.sha256(data.tobytes()).hexdigest()
    assert checksums.damaged(data) is None
