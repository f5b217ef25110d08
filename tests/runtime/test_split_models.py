"""Models in pieces (NAME-00001-of-00003.gguf): found, checked and mapped, and never merged."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from api.discovery import Discovery
from pipelines.conversion.convert import convert
from pipelines.prepare import prepare
from runtime.errors import GGUFError, PreparationError, TruncatedGGUF, WeightsChanged
from runtime.gguf import GGUFFile, gguf_at
from runtime.manifest import Manifest
from runtime.registry import Catalog, Registry
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import largest_step
from runtime.verification import Condition, verify
from tests.models import write_tiny_llama
from tests.split_models import split


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return write_tiny_llama(tmp_path / "whole" / "tiny.gguf")


@pytest.fixture
def pieces(whole: Path, tmp_path: Path) -> list[Path]:
    (tmp_path / "pieces").mkdir()
    return split(whole, 3, folder=tmp_path / "pieces")


def test_the_first_piece_opens_the_whole_model(whole: Path, pieces: list[Path]) -> None:
    one, several = GGUFFile.open(whole), GGUFFile.open(pieces[0])
    assert several.paths == tuple(pieces)
    assert list(several.tensors) == list(one.tensors)
    assert {info.piece for info in several.tensors.values()} == {0, 1, 2}
    for name in one.tensors:
        assert np.array_equal(several.data(name), one.data(name))


def test_the_first_piece_may_hold_metadata_alone(whole: Path, tmp_path: Path) -> None:
    several = GGUFFile.open(split(whole, 3, folder=tmp_path, first_is_empty=True)[0])
    assert {info.piece for info in several.tensors.values()} == {1, 2}
    assert several.tensors.keys() == GGUFFile.open(whole).tensors.keys()


def test_a_folder_names_its_only_model(pieces: list[Path]) -> None:
    folder = pieces[0].parent
    (folder / "mmproj-tiny.gguf").touch()
    (folder / "README.md").touch()
    assert gguf_at(folder) == pieces[0]
    (folder / "other.gguf").touch()
    with pytest.raises(GGUFError, match=r"several models; name one of other\.gguf, tiny-00001"):
        gguf_at(folder)
    assert gguf_at(folder / "other.gguf") == folder / "other.gguf"
    assert gguf_at(folder / "none") is None


def test_a_missing_piece_is_named(pieces: list[Path]) -> None:
    pieces[1].unlink()
    with pytest.raises(TruncatedGGUF, match=r"tiny-00002-of-00003\.gguf of the 3 pieces of"):
        Source(pieces[0])
    pieces[2].unlink()
    with pytest.raises(TruncatedGGUF, match=r"00002-of-00003\.gguf and 1 more of the 3 "):
        GGUFFile.open(pieces[0])


def test_a_missing_first_piece_of_a_folder_is_named(pieces: list[Path]) -> None:
    pieces[0].unlink()
    found = gguf_at(pieces[0].parent)
    assert found == pieces[0]
    with pytest.raises(TruncatedGGUF, match=r"tiny-00001-of-00003\.gguf of the 3 pieces"):
        Source(found)


def test_another_piece_than_the_first_says_which_to_name(pieces: list[Path]) -> None:
    with pytest.raises(GGUFError, match=r"is piece 2 of 3; name .*tiny-00001-of-00003\.gguf"):
        GGUFFile.open(pieces[1])


def test_a_truncated_piece_is_named(pieces: list[Path]) -> None:
    os.truncate(pieces[2], pieces[2].stat().st_size - 64)
    with pytest.raises(TruncatedGGUF, match=r"tiny-00003-of-00003\.gguf: tensor .* past the end"):
        GGUFFile.open(pieces[0])


def test_pieces_in_the_wrong_order_are_named(pieces: list[Path]) -> None:
    aside = pieces[1].with_name("aside")
    pieces[1].rename(aside)
    pieces[2].rename(pieces[1])
    aside.rename(pieces[2])
    with pytest.raises(GGUFError, match=r"00002-of-00003\.gguf holds piece 3 of 3.* says 2"):
        GGUFFile.open(pieces[0])


def test_a_piece_of_another_model_is_named(pieces: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    larger = split(write_tiny_llama(tmp_path / "tiny.gguf", layers=4), 3, folder=tmp_path / "other")
    shutil.copy(larger[1], pieces[1])
    with pytest.raises(GGUFError, match=r"00002-of-00003\.gguf is a piece of another model than"):
        GGUFFile.open(pieces[0])


def test_the_same_tensors_twice_are_named(pieces: list[Path], tmp_path: Path) -> None:
    again = split(tmp_path / "whole" / "tiny.gguf", 4, folder=tmp_path)
    content = bytearray(again[1].read_bytes())
    at = content.index(b"split.count") + len("split.count") + 4
    content[at : at + 2] = (3).to_bytes(2, "little")
    pieces[1].write_bytes(content)
    with pytest.raises(GGUFError, match=r"holds tensor '.*', and so does|hold \d+ tensors instead"):
        GGUFFile.open(pieces[0])


def test_a_piece_under_a_name_of_its_own_says_what_to_call_it(pieces: list[Path]) -> None:
    alone = pieces[0].with_name("model.gguf")
    shutil.copy(pieces[0], alone)
    with pytest.raises(GGUFError, match=r"is piece 1 of 3; call it NAME-00001-of-00003\.gguf"):
        GGUFFile.open(alone)


def test_a_merged_model_may_keep_the_name_of_its_first_piece(whole: Path) -> None:
    merged = whole.rename(whole.with_name("tiny-00001-of-00003.gguf"))
    assert GGUFFile.open(merged).paths == (merged,)


def test_one_of_one_is_a_whole_model(whole: Path) -> None:
    alone = whole.rename(whole.with_name("tiny-00001-of-00001.gguf"))
    assert GGUFFile.open(alone).paths == (alone,)


@pytest.mark.parametrize("weights_copy", ["link", "copy"])
def test_a_split_model_computes_what_the_whole_one_does(
    whole: Path, pieces: list[Path], settings: Settings, tmp_path: Path, weights_copy: str
) -> None:
    folders = []
    for path in (whole, pieces[0]):
        folder = tmp_path / f"prepared-{path.stem}"
        folder.mkdir()
        convert(Source(path), folder, "tiny", weights_copy=weights_copy)  # type: ignore[arg-type]
        folders.append(folder)
    step = largest_step(20, 20, pages=2)
    one, several = (Session(folder, settings=settings).run(step).copy() for folder in folders)
    assert np.array_equal(one, several)


def test_it_is_published_once_under_the_name_without_numbers(
    pieces: list[Path], settings: Settings
) -> None:
    folder = prepare(pieces[0].parent, settings, lambda step: None)
    manifest = Manifest.read(folder)
    assert manifest.name == "tiny"
    assert manifest.weights.size == sum(path.stat().st_size for path in pieces)
    assert [file.path for file in manifest.weights.files] == list(map(str, pieces))
    assert prepare(pieces[0], settings, lambda step: None) == folder
    assert Registry(settings).resolve(pieces[0]) == folder
    assert {each.condition for each in verify(folder, settings.packed_folder)} == {Condition.INTACT}


def test_a_damaged_piece_is_found(pieces: list[Path], settings: Settings) -> None:
    folder = prepare(pieces[0], settings, lambda step: None)
    placed = Manifest.read(folder).weights_paths(folder)[2]
    placed.chmod(0o644)
    content = bytearray(placed.read_bytes())
    content[-1] ^= 1
    placed.write_bytes(content)
    findings = {each.file: each.condition for each in verify(folder, settings.packed_folder)}
    assert findings[placed] is Condition.DAMAGED
    with pytest.raises(PreparationError, match=r"00003-of-00003\.gguf has changed since"):
        Session(folder, settings=settings)


def test_a_piece_that_is_written_to_stops_the_model(pieces: list[Path], settings: Settings) -> None:
    folder = prepare(pieces[0], settings, lambda step: None)
    session = Session(folder, settings=settings)
    session.check()
    placed = Manifest.read(folder).weights_paths(folder)[1]
    placed.chmod(0o644)
    with placed.open("r+b") as file:
        file.truncate(64)
    with pytest.raises(WeightsChanged, match="are no longer those that were loaded"):
        session.check()


def test_get_models_tells_the_size_of_all_pieces(pieces: list[Path], settings: Settings) -> None:
    prepare(pieces[0], settings, lambda step: None)
    (listed,) = Discovery(Catalog(settings))()
    assert listed.size == sum(path.stat().st_size for path in pieces)
    assert listed.metadata["split.count"] == 3


def test_pieces_that_cannot_be_placed_stay_together_outside(
    whole: Path, pieces: list[Path], settings: Settings, tmp_path: Path
) -> None:
    """A blob may have the name of another file of the folder."""
    (tmp_path / "links").mkdir()
    pieces[1] = pieces[1].rename(pieces[1].with_name("model.onnx"))
    links = [tmp_path / "links" / f"tiny-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for link, piece in zip(links, pieces, strict=True):
        link.symlink_to(piece)
    folder = prepare(links[0], settings, lambda step: None)
    manifest = Manifest.read(folder)
    assert manifest.weights.stored_as == "outside"
    assert manifest.weights_paths(folder) == tuple(pieces)
    Session(folder, settings=settings).check()


def test_pieces_in_several_folders_are_refused(pieces: list[Path], settings: Settings) -> None:
    elsewhere = pieces[1].parent / "elsewhere"
    elsewhere.mkdir()
    pieces[1].symlink_to(pieces[1].rename(elsewhere / "piece"))
    with pytest.raises(PreparationError, match="are in several folders; put them into one"):
        prepare(pieces[0], settings, lambda step: None)


def test_another_last_piece_makes_another_version(
    pieces: list[Path], settings: Settings, tmp_path: Path
) -> None:
    first = prepare(pieces[0], settings, lambda step: None)
    other = split(write_tiny_llama(tmp_path / "tiny.gguf", seed=5), 3)
    os.replace(other[2], pieces[2])
    second = prepare(pieces[0], settings, lambda step: None)
    assert (first.name, second.name) == ("1", "2")


def test_pieces_may_be_links_to_blobs_of_other_names(
    pieces: list[Path], settings: Settings, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "revision"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, piece in enumerate(pieces):
        blob = piece.rename(blobs / f"{9 - number:064x}")
        (snapshot / piece.name).symlink_to(Path("../../blobs", blob.name))
    folder = prepare(snapshot, settings, lambda step: None)
    assert Manifest.read(folder).name == "tiny"
    Session(folder, settings=settings)
    assert Registry(settings).resolve(snapshot / pieces[0].name) == folder
