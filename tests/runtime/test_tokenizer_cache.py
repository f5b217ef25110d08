"""The tokenizer cache: found in memory and in its folder, made again if damaged."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.gguf import GGUFFile
from runtime.tokenizer import CacheStatistics, Tokenizer, TokenizerCache
from tests.models import byte_level_vocabulary, sentencepiece_vocabulary, write_tiny_llama

TEXT = "hello the world, 漢字"


@pytest.fixture(params=["byte level", "SentencePiece"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> GGUFFile:
    made = byte_level_vocabulary if request.param == "byte level" else sentencepiece_vocabulary
    return GGUFFile.open(write_tiny_llama(tmp_path / "m.gguf", vocabulary=made(), layers=1))


def counts(cache: TokenizerCache) -> tuple[int, int]:
    statistics = cache.statistics()
    return statistics.hits, statistics.misses


def test_same_vocabulary_gives_the_same_tokenizer(file: GGUFFile) -> None:
    cache = TokenizerCache()
    first = Tokenizer.from_gguf(file, cache)
    assert Tokenizer.from_gguf(GGUFFile.open(file.path), cache) is first
    assert counts(cache) == (1, 1)
    assert cache.statistics().bytes > 0


def test_other_vocabulary_is_a_miss(file: GGUFFile, tmp_path: Path) -> None:
    vocabulary = byte_level_vocabulary(words=("other",))
    other = write_tiny_llama(tmp_path / "o.gguf", vocabulary=vocabulary, layers=1)
    cache = TokenizerCache()
    assert Tokenizer.from_gguf(file, cache) is not Tokenizer.from_gguf(GGUFFile.open(other), cache)
    assert counts(cache) == (0, 2)


def test_next_process_finds_the_table_in_the_folder(file: GGUFFile, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tokenizers"
    first = Tokenizer.from_gguf(file, TokenizerCache(folder))
    cache = TokenizerCache(folder)
    second = Tokenizer.from_gguf(file, cache)
    assert second is not first
    assert second.encode(TEXT) == first.encode(TEXT)
    assert counts(cache) == (1, 0)
    assert [path.suffix for path in folder.iterdir()] == [".merges"]


@pytest.mark.parametrize("damage", ["empty", "cut", "overwritten"])
def test_damaged_table_is_made_anew(file: GGUFFile, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "cache"
    expected = Tokenizer.from_gguf(file, TokenizerCache(folder)).encode(TEXT)
    (stored,) = folder.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(
        {"empty": b"", "cut": whole[:-8], "overwritten": whole[:-1] + b"\x7f"}[damage]
    )
    cache = TokenizerCache(folder)
    assert Tokenizer.from_gguf(file, cache).encode(TEXT) == expected
    assert counts(cache) == (0, 1)
    assert stored.read_bytes() == whole


def test_folder_that_cannot_be_written_costs_nothing_but_time(
    file: GGUFFile, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    cache = TokenizerCache(blocked / "tokenizers")
    assert Tokenizer.from_gguf(file, cache).encode(TEXT)
    assert counts(cache) == (0, 1)


def test_tokenizer_that_nobody_holds_is_let_go(file: GGUFFile) -> None:
    cache = TokenizerCache()
    Tokenizer.from_gguf(file, cache)
    gc.collect()
    Tokenizer.from_gguf(file, cache)
    assert counts(cache) == (0, 2)


def test_threads_share_one_tokenizer(file: GGUFFile) -> None:
    cache = TokenizerCache()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Tokenizer.from_gguf(file, cache), range(32)))
        texts = list(pool.map(lambda tokenizer: tokenizer.encode(TEXT), made))
    assert len({id(tokenizer) for tokenizer in made}) == 1
    assert all(tokens == texts[0] for tokens in texts)
    assert cache.statistics() == CacheStatistics(31, 1, cache.statistics().bytes)
