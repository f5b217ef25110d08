"""A name is checked before a path is made of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocmforge.__main__ import main
from runtime.errors import InvalidName, ModelNotFound
from runtime.registry import Registry, expect_name, is_name, model_name
from runtime.registry.names import MAX_NAME_LENGTH
from runtime.settings import Settings

NO_NAMES = [
    "",
    ".",
    "..",
    "../..",
    "/",
    "/etc",
    "a/b",
    "versions/1",
    ".removed",
    "-a",
    "a-",
    "a.",
    "a b",
    "a@1",
    "a\n",
    "a\0b",
    "ä",
    "模型",
    "\ud800",
    "a" * (MAX_NAME_LENGTH + 1),
    "a" * 100_000,
]

TAKE_A_NAME: dict[str, Callable[[Registry, str], object]] = {
    "current": lambda registry, name: registry.current(name),
    "pointed_at": lambda registry, name: registry.pointed_at(name),
    "versions": lambda registry, name: registry.versions(name),
    "broken": lambda registry, name: registry.broken(name),
    "version": lambda registry, name: registry.version(name, 1),
    "previous": lambda registry, name: registry.previous(name),
    "preparing": lambda registry, name: registry.preparing(name).__enter__(),
    "new_staging": lambda registry, name: registry.new_staging(name, "test"),
    "staging": lambda registry, name: registry.staging(name, "test"),
    "stagings": lambda registry, name: registry.stagings(name),
    "rollback": lambda registry, name: registry.rollback(name),
    "rollback to": lambda registry, name: registry.rollback(name, 1),
    "retire": lambda registry, name: registry.retire(name),
    "remove": lambda registry, name: registry.remove(name),
    "remove one": lambda registry, name: registry.remove(name, 1),
}


def paths(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: ascii(name)[:20])
def test_what_is_no_name_is_refused_and_touches_nothing(tmp_path: Path, name: str) -> None:
    """Among models that are called like parts of the registry itself."""
    settings = Settings(home=tmp_path / "home")
    for model in ("versions", "staging", "other"):
        (settings.models_folder / model / "versions" / "1").mkdir(parents=True)
    before = paths(tmp_path)
    registry = Registry(settings)
    for method in TAKE_A_NAME.values():
        with pytest.raises(InvalidName):
            method(registry, name)
    with pytest.raises(ModelNotFound):
        registry.resolve(name)
    assert paths(tmp_path) == before


def test_every_method_that_takes_a_name_is_looked_at() -> None:
    takes = {
        name
        for name in dir(Registry)
        if not name.startswith("_")
        and "name" in getattr(getattr(Registry, name), "__annotations__", {})
    }
    assert takes - {"find", "prepared_from"} <= TAKE_A_NAME.keys()


@pytest.mark.parametrize("command", [["remove"], ["rollback"]])
@pytest.mark.parametrize("name", ["", "../..", "a" * 5000, "."])
def test_commands_refuse_what_is_no_name(
    tmp_path: Path, command: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    (home / "models" / "versions" / "versions" / "1").mkdir(parents=True)
    before = paths(tmp_path)
    assert main([*command, name, "--home", str(home)]) == 2
    assert "is no name of a model" in capsys.readouterr().err
    assert paths(tmp_path) == before


@given(st.text(max_size=300))
def test_every_file_has_a_name_that_is_one(stem: str) -> None:
    assert is_name(model_name(Path(f"{stem}.gguf")))


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,98}", fullmatch=True))
def test_a_name_stays_itself(name: str) -> None:
    if is_name(name):
        assert expect_name(name) == name
        assert model_name(Path(f"{name}.gguf")) == name
