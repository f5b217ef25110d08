"""A GGUF becomes a published model, or nothing changes."""

import mmap
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pipelines import prepare as prepare_room
from pipelines.prepare import prepare
from pipelines.validation import CHECKS
from runtime.checksums import Checksums, ChecksumsOf
from runtime.errors import (
    GGUFError,
    InvalidName,
    ModelNotFound,
    NameTaken,
    PreparationError,
    UnsupportedModel,
)
from runtime.gguf import GGUFFile
from runtime.manifest import Manifest
from runtime.registry import Registry, model_name
from runtime.session import Session
from runtime.settings import Settings, WeightsCopy
from tests.models import byte_level_vocabulary, write_tiny_llama
from tests.pipelines.faults import convert_wrongly
from tests.pipelines.kill_preparations import kill_preparations

# Plain forks: the children import nothing anew and end before they could meet a foreign thread.
FORK = multiprocessing.get_context("fork")


def silent(step: str) -> None:
    """Progress that nobody watches."""


def prepare_in_child(path: Path, home: Path) -> Path:
    return prepare(path, Settings(home=home), silent)


def prepare_and_die(path: Path, home: Path, last_step: str) -> None:
    def die(step: str) -> None:
        if step.startswith(last_step):
            os.kill(os.getpid(), signal.SIGKILL)

    prepare(path, Settings(home=home), die)


def test_prepare_publishes_a_checked_model(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    steps: list[str] = []
    folder = prepare(path, settings, steps.append)
    assert folder == settings.models_folder / "tiny" / "versions" / "1"
    assert (settings.models_folder / "tiny" / "current").resolve() == folder
    checks = Manifest.read(folder).checks
    assert [check.name for check in checks] == list(CHECKS)
    assert all(check.passed for check in checks)
    assert steps[0] == "Reading tiny.gguf"
    assert steps[-1] == "Publishing"
    assert Registry(settings).stagings("tiny") == []


def test_long_steps_say_how_many_bytes_are_done(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    step = ""
    amounts: dict[str, list[tuple[int, int]]] = {}

    def begin(name: str) -> None:
        nonlocal step
        step = name

    def amount(done: int, total: int) -> None:
        amounts.setdefault(step, []).append((done, total))

    prepare(path, settings, begin, amount)
    assert list(amounts) == [
        "Reading tiny.gguf",
        "Packing the weights and loading the model in ONNX Runtime",
        "Comparing logits with the exact model",
    ]
    for told in amounts.values():
        assert told == sorted(told)
        assert all(0 < done <= total for done, total in told)
        assert told[-1][0] == told[-1][1]


def test_a_published_file_is_not_prepared_again(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = prepare(path, settings, silent)
    steps: list[str] = []
    assert prepare(path, settings, steps.append) == first
    assert steps == []


@pytest.mark.parametrize("weights_copy", ["link", "copy"])
def test_a_preparation_opens_parses_and_reads_its_file_once(
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    weights_copy: WeightsCopy,
) -> None:
    """Also where a version of the same size must be told from it by the content."""
    settings = msgspec.structs.replace(settings, weights_copy=weights_copy)
    path = write_tiny_llama(tmp_path / "tiny.gguf", seed=1)
    prepare(path, settings, silent)
    path.unlink()
    write_tiny_llama(path, seed=2)
    parsed: list[Path] = []
    reads: list[Checksums] = []
    parse, result = GGUFFile.__init__, ChecksumsOf.result

    def noted_parse(self: GGUFFile, pieces: list[tuple[Path, mmap.mmap]]) -> None:
        parsed.extend(path for path, _ in pieces)
        parse(self, pieces)

    def noted_result(self: ChecksumsOf) -> Checksums:
        reads.append(result(self))
        return reads[-1]

    monkeypatch.setattr(GGUFFile, "__init__", noted_parse)
    monkeypatch.setattr(ChecksumsOf, "result", noted_result)
    with opened(path) as opens:
        folder = prepare(path, settings, silent)
    assert folder.name == "2"
    assert (opens, parsed) == ([str(path)], [path])
    assert [checksums.size for checksums in reads] == [path.stat().st_size]


@contextmanager
def opened(path: Path) -> Iterator[list[str]]:
    """Each time that this process opens a file, while in the block."""
    opens: list[str] = []
    watching = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        # Without a mode it is os.open, by which open() gets its descriptor here.
        if watching and event == "open" and arguments[:2] in ((path, "r"), (str(path), "r")):
            opens.append(str(path))

    sys.addaudithook(note)  # there is no way to take it away
    try:
        yield opens
    finally:
        watching = False


def test_preparing_a_kept_version_again_makes_it_current(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    folder = prepare(path, settings, silent)
    registry = Registry(settings)
    registry.retire("tiny")
    assert prepare(path, settings, silent) == folder
    assert registry.resolve("tiny") == folder


def test_new_content_becomes_a_new_version(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", seed=1)
    first = prepare(path, settings, silent)
    path.unlink()  # the published link keeps the earlier content
    write_tiny_llama(path, seed=2)
    second = prepare(path, settings, silent)
    assert [model.version for model in Registry(settings).versions("tiny")] == [2, 1]
    assert Registry(settings).resolve("tiny") == second
    assert Manifest.read(first).weights.sha256 != Manifest.read(second).weights.sha256


def test_a_failed_check_keeps_the_earlier_version(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", seed=1)
    first = prepare(path, settings, silent)
    path.unlink()
    write_tiny_llama(path, seed=2)

    monkeypatch.setattr(prepare_room, "convert", convert_wrongly)
    with pytest.raises(PreparationError, match=r"tiny failed its logits check.*blk\.1\.attention"):
        prepare(path, settings, silent)
    assert Registry(settings).resolve("tiny") == first
    assert Registry(settings).stagings("tiny") == []


def test_nothing_is_written_for_what_cannot_be_run(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ModelNotFound):
        prepare(tmp_path / "missing.gguf", settings, silent)
    with pytest.raises(UnsupportedModel):
        prepare(write_tiny_llama(tmp_path / "q8.gguf", format="Q8_1"), settings, silent)
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF" + os.urandom(500))
    with pytest.raises(GGUFError):
        prepare(garbage, settings, silent)
    assert not settings.models_folder.exists()


@pytest.mark.parametrize("last_step", ["Converting", "Comparing logits", "Publishing"])
def test_a_killed_preparation_is_cleaned_by_the_next(
    tmp_path: Path, settings: Settings, last_step: str
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    child = FORK.Process(target=prepare_and_die, args=(path, settings.home, last_step))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    registry = Registry(settings)
    assert registry.models() == []
    assert len(registry.stagings("tiny")) == 1
    folder = prepare(path, settings, silent)
    assert registry.stagings("tiny") == []
    assert folder.name == "1"


def test_preparing_one_file_at_once_publishes_it_once(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    with ProcessPoolExecutor(3, mp_context=FORK) as pool:
        folders = set(pool.map(prepare_in_child, [path] * 3, [settings.home] * 3))
    assert folders == {settings.models_folder / "tiny" / "versions" / "1"}


def test_a_renamed_copy_is_published_under_its_own_name(tmp_path: Path, settings: Settings) -> None:
    """Of the very files that were checked, so nothing is converted or checked again."""
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = prepare(path, settings, silent)
    copy = Path(shutil.copy(path, tmp_path / "renamed.gguf"))
    steps: list[str] = []
    folder = prepare(copy, settings, steps.append)
    assert folder == settings.models_folder / "renamed" / "versions" / "1"
    assert steps == ["Reading renamed.gguf", "Publishing"]
    original, renamed = Manifest.read(first), Manifest.read(folder)
    assert (renamed.name, renamed.weights.path) == ("renamed", str(copy))
    assert renamed.checks == original.checks
    for file in ("model.onnx", "tiny.gguf"):
        assert (folder / file).samefile(first / file)
    registry = Registry(settings)
    assert [model.label for model in registry.models()] == ["renamed@1", "tiny@1"]
    assert registry.resolve(copy) == registry.resolve("renamed") == folder
    Session(folder, settings=settings)
    registry.remove("tiny")
    Session(folder, settings=settings)


def test_a_copy_of_what_was_checked_by_other_programs_is_checked_anew(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = prepare(path, settings, silent)
    manifest = Manifest.read(first)
    older = {**manifest.versions, "rocmforge": "0.0.1"}
    msgspec.structs.replace(manifest, versions=older).write(first)
    steps: list[str] = []
    prepare(Path(shutil.copy(path, tmp_path / "renamed.gguf")), settings, steps.append)
    assert "Converting" in steps


def test_one_file_may_have_several_names(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = prepare(path, settings, silent, name="first")
    assert prepare(path, settings, silent) == first
    second = prepare(path, settings, silent, name="second")
    assert [first.parts[-3], second.parts[-3]] == ["first", "second"]
    with pytest.raises(InvalidName):
        prepare(path, settings, silent, name="../second")


def test_two_files_of_one_name_are_versions_of_one_model_only_where_asked(
    tmp_path: Path, settings: Settings
) -> None:
    for folder in "abc":
        (tmp_path / folder).mkdir()
    first = prepare(write_tiny_llama(tmp_path / "a" / "model.gguf"), settings, silent)
    other = write_tiny_llama(tmp_path / "b" / "model.gguf", seed=2, layers=1)
    alike = write_tiny_llama(tmp_path / "c" / "model.gguf", seed=3)
    words = byte_level_vocabulary(words=("Ġa", "xyz"))
    write_tiny_llama(other, seed=2, vocabulary=words)
    registry = Registry(settings)
    with pytest.raises(NameTaken, match=r"a/model\.gguf.*--name.*--replace"):
        prepare(other, settings, silent)
    assert registry.resolve("model") == first
    assert [model.version for model in registry.versions("model")] == [1]
    assert prepare(other, settings, silent, name="other").parts[-3:] == ("other", "versions", "1")
    assert prepare(alike, settings, silent).name == "2"
    registry.remove("other")
    assert prepare(other, settings, silent, replace=True).name == "3"


def test_a_file_that_was_replaced_is_the_next_version_whatever_it_holds(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    prepare(path, settings, silent)
    path.unlink()
    write_tiny_llama(path, vocabulary=byte_level_vocabulary(words=("Ġa", "xyz")))
    assert prepare(path, settings, silent).name == "2"


@pytest.mark.parametrize("lost", ["model.onnx", "manifest.json"])
def test_a_broken_version_is_prepared_anew(tmp_path: Path, settings: Settings, lost: str) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = prepare(path, settings, silent)
    (first / lost).unlink()
    steps: list[str] = []
    folder = prepare(path, settings, steps.append)
    assert "Converting" in steps
    assert Registry(settings).resolve("tiny") == folder
    Session(folder, settings=settings)


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q4_1"),
        ("my model (final).gguf", "my-model-final"),
        ("...gguf", "model"),
        ("Ünïcode/../x.gguf", "x"),
        ("a" * 300 + ".gguf", "a" * 100),
    ],
)
def test_names_suit_folders_and_urls(file_name: str, name: str) -> None:
    assert model_name(Path(file_name)) == name


@pytest.mark.slow
def test_preparations_that_are_killed_leave_nothing_half_made(tmp_path: Path) -> None:
    """`make kill-preparations` kills fifty."""
    outcomes = kill_preparations(tmp_path, rounds=2, seed=7)
    assert len(outcomes) == 2


def test_a_path_that_no_manifest_can_hold_is_refused_at_once(
    tmp_path: Path, settings: Settings
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.gguf"))
    write_tiny_llama(tmp_path / "tiny.gguf").rename(path)
    with pytest.raises(PreparationError, match="is not UTF-8; rename"):
        prepare(path, settings, silent)
    assert Registry(settings).names() == []
