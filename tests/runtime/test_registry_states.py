"""Whatever is done to the registry, and wherever a process stops in it: what it says is true."""

import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipelines.conversion.convert import convert
from runtime.errors import BrokenModel, ModelNotFound, PreparationError
from runtime.files import PARTIAL_PREFIX
from runtime.manifest import MANIFEST_NAME, Manifest
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.models import write_tiny_llama

pytestmark = pytest.mark.slow

NAMES = ("tiny", "other")
KEPT = 3
CHANGES = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.symlink",
    "os.link",
    "os.truncate",
}
"""Audit events of file operations that change something; `open` is one where it writes."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Stopped(BaseException):
    """The process was killed here."""


class Stop:
    """Lets a file operation of its own thread fail, and every one after it, as a kill does.

    Python's audit hooks cannot be removed, so there is one of them, which mostly does nothing.
    """

    def __init__(self) -> None:
        self._left: int | None = None
        self._thread = threading.get_ident()
        sys.addaudithook(self._hook)

    @contextmanager
    def after(self, operations: int | None) -> Iterator[None]:
        """A context in which operation number `count` and all later ones raise Stopped."""
        self._left = operations
        try:
            yield
        finally:
            self._left = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._left is None or threading.get_ident() != self._thread:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if event in CHANGES or writes:
            if self._left == 0:
                raise Stopped
            self._left -= 1


STOP = Stop()
NAME = st.sampled_from((*NAMES, NAMES[0], NAMES[0]))
VERSION = st.integers(1, 6)
STOP_AFTER = st.none() | st.none() | st.integers(0, 30)


def converted(folder: Path) -> dict[int, Path]:
    """Prepared folders of different content, to publish copies of."""
    prepared = {}
    for seed in (1, 2):
        gguf = write_tiny_llama(folder / "tiny.gguf", seed=seed, layers=1)
        prepared[seed] = folder / str(seed)
        prepared[seed].mkdir()
        convert(Source(gguf), prepared[seed], "tiny")
        gguf.unlink()
    return prepared


@dataclass
class Model:
    """What should be there of one model."""

    whole: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    pointer: int | None = None
    """What `current` names."""
    stack: list[int] | None = field(default_factory=list)
    """What was current; None where a stop or a lost file leaves it open."""
    newest: int = 0

    @property
    def versions(self) -> set[int]:
        return self.whole | self.broken

    @property
    def previous(self) -> int | None:
        assert self.stack is not None
        before = self.stack
        if self.pointer is not None:
            before = before[: before.index(self.pointer)]
        return next((version for version in reversed(before) if version in self.whole), None)

    def point(self, version: int) -> None:
        self.pointer = version
        self.newest = max(self.newest, version)
        if self.stack is not None:
            known = self.stack.index(version) if version in self.stack else len(self.stack)
            self.stack = [*self.stack[:known], version]

    def prune(self) -> None:
        kept = 0
        for version in sorted(self.versions, reverse=True):
            if kept >= KEPT and version != self.pointer:
                self.whole.discard(version)
                self.broken.discard(version)
            kept += version in self.whole


class RegistryStates(RuleBasedStateMachine):
    """A registry, and beside it what should be there.

    An operation that is stopped must leave a state that can be read and used: no version is broken
    by it, the other model is as it was, and what is current is what was or what should become it.
    What should be there is then read from the registry.
    """

    prepared: dict[int, Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.settings = Settings(home=Path(self.folder.name) / "home", keep_versions=KEPT)
        self.registry = Registry(self.settings)
        self.models = {name: Model() for name in NAMES}

    def teardown(self) -> None:
        for name in NAMES:
            self.publish(name, 1, None)
            self.remove(name, None)
        assert list(self.settings.models_folder.iterdir()) == []
        self.folder.cleanup()

    @rule(name=NAME, seed=st.sampled_from((1, 2)), stop=STOP_AFTER)
    def publish(self, name: str, seed: int, stop: int | None) -> None:
        model, before = self.models[name], self.models[name].pointer
        if not self.done(name, lambda: self._publish(name, seed), stop):
            assert before is None or self.models[name].pointer is not None
            return
        (new,) = {int(path.name) for path in self._version_folders(name)} - model.versions
        assert new > max([model.newest, *model.versions])
        model.whole.add(new)
        model.point(new)
        model.prune()
        self.expect_tidy(name)

    def _publish(self, name: str, seed: int) -> None:
        with self.registry.preparing(name):
            staging = self.registry.new_staging(name, "test")
            for file in self.prepared[seed].iterdir():
                if file.name == MANIFEST_NAME:
                    shutil.copy(file, staging)
                else:
                    os.link(file, staging / file.name)
            manifest = msgspec.structs.replace(Manifest.read(staging), name=name)
            self.registry.publish(staging, manifest)

    @rule(name=NAME, stop=STOP_AFTER)
    def rollback(self, name: str, stop: int | None) -> None:
        model = self.models[name]
        found: list[int] = []
        try:
            done = self.done(name, lambda: found.append(self.registry.rollback(name).version), stop)
        except ModelNotFound:
            assert model.stack is None or model.previous is None
            return
        if done:
            assert model.stack is None or found == [model.previous]
            model.point(found[0])

    @rule(name=NAME, version=VERSION, stop=STOP_AFTER)
    def rollback_to(self, name: str, version: int, stop: int | None) -> None:
        model = self.models[name]
        try:
            done = self.done(name, lambda: self.registry.rollback(name, version), stop)
        except ModelNotFound:
            assert version not in model.versions
        except BrokenModel:
            assert version in model.broken
        else:
            if done:
                assert version in model.whole
                model.point(version)

    @rule(name=NAME, stop=STOP_AFTER)
    def retire(self, name: str, stop: int | None) -> None:
        try:
            if self.done(name, lambda: self.registry.retire(name), stop):
                self.models[name].pointer = None
        except ModelNotFound:
            assert not self.models[name].versions

    @rule(name=NAME, stop=STOP_AFTER)
    def remove(self, name: str, stop: int | None) -> None:
        try:
            done = self.done(name, lambda: self.registry.remove(name), stop)
        except ModelNotFound:
            assert not self.models[name].versions
            done = True
        if done:
            self.models[name] = Model()

    @rule(name=NAME, version=VERSION, stop=STOP_AFTER)
    def remove_one(self, name: str, version: int, stop: int | None) -> None:
        model = self.models[name]
        try:
            done = self.done(name, lambda: self.registry.remove(name, version), stop)
        except ModelNotFound:
            assert version not in model.versions
        except PreparationError:
            assert version in model.whole
            assert version == model.pointer
        else:
            if done:
                if version == model.pointer:
                    model.pointer = None
                model.whole.discard(version)
                model.broken.discard(version)

    @rule(
        name=NAME,
        version=VERSION,
        file=st.sampled_from((MANIFEST_NAME, "model.onnx", "tiny.gguf")),
        content=st.none() | st.sampled_from((b"", b"\xff", b"null", b"[" * 5000)),
    )
    def break_file(self, name: str, version: int, file: str, content: bytes | None) -> None:
        path = self._home(name) / "versions" / str(version) / file
        if path.parent.exists():
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            self.models[name].whole.discard(version)
            self.models[name].broken.add(version)

    @rule(
        name=NAME,
        file=st.sampled_from(("current", "history.json")),
        content=st.none() | st.sampled_from((b"", b"\xff", b"[1]")),
    )
    def break_pointer(self, name: str, file: str, content: bytes | None) -> None:
        if file == "current":
            self.models[name].pointer = None
        else:
            self.models[name].stack = None
            self.models[name].newest = 0
        path = self._home(name) / file
        if os.path.lexists(path):
            path.unlink()
            if content is not None:
                path.write_bytes(content)

    @invariant()
    def what_is_current_can_be_loaded(self) -> None:
        for model in self.registry.models():
            model.verify()
            assert self.registry.resolve(model.name) == model.folder

    @invariant()
    def what_is_listed_is_there(self) -> None:
        for name, model in self.models.items():
            versions = self.registry.versions(name)
            for version in versions:
                version.verify()
            assert {version.version for version in versions} == model.whole
            assert {version.version for version in self.registry.broken(name)} == model.broken
            current = self.registry.current(name)
            expected = model.pointer if model.pointer in model.whole else None
            assert (None if current is None else current.version) == expected
            if model.stack is not None:
                previous = self.registry.previous(name)
                assert (None if previous is None else previous.version) == model.previous
        assert self.registry.names() == sorted(n for n in NAMES if self.models[n].versions)

    def done(self, name: str, operation: Callable[[], object], stop: int | None) -> bool:
        """Whether an operation went through, or was stopped and has left a state to go on from."""
        try:
            with STOP.after(stop):
                operation()
        except Stopped:
            self._look(name)
            return False
        return True

    def _look(self, name: str) -> None:
        """What a stop may have left is taken as what should be there."""
        model = self.models[name]
        folders = {int(path.name) for path in self._version_folders(name)}
        broken = {version.version for version in self.registry.broken(name)}
        assert broken <= model.broken, "a stop has broken a version"
        assert len(folders - model.versions) <= 1
        pointed_at = self.registry.pointed_at(name)
        self.models[name] = Model(
            folders - broken,
            broken,
            None if pointed_at is None else pointed_at.version,
            None,
            max([model.newest, *folders]) if folders & model.versions else 0,
        )

    def expect_tidy(self, name: str) -> None:
        """What stops have left of a model is gone with the next that went through."""
        left = [*self._home(name).rglob(f"{PARTIAL_PREFIX}*"), *self._home(name).glob("*/test")]
        assert left == []
        assert not (self.settings.models_folder / ".removed").exists()

    def _home(self, name: str) -> Path:
        return self.settings.models_folder / name

    def _version_folders(self, name: str) -> list[Path]:
        folder = self._home(name) / "versions"
        return list(folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(
    ("operation", "may_retire"),
    [
        (lambda states: states._publish("tiny", 2), False),
        (lambda states: states.registry.rollback("tiny"), False),
        (lambda states: states.registry.rollback("tiny", 1), False),
        (lambda states: states.registry.remove("tiny", 1), False),
        (lambda states: states.registry.retire("tiny"), True),
        (lambda states: states.registry.remove("tiny"), True),
    ],
    ids=["publish", "rollback", "rollback to", "remove one", "retire", "remove"],
)
def test_wherever_an_operation_is_stopped_the_model_is_as_before_or_after(
    tmp_path: Path, operation: Callable[[RegistryStates], object], may_retire: bool
) -> None:
    RegistryStates.prepared = converted(tmp_path)
    for stop in itertools.count():
        states = RegistryStates()
        registry = states.registry
        for seed in (1, 2, 1):
            states.publish("tiny", seed, None)
        finished = states.done("tiny", lambda: operation(states), stop)  # noqa: B023
        states._look("tiny")
        states.what_is_current_can_be_loaded()
        states.what_is_listed_is_there()
        assert may_retire or registry.current("tiny") is not None
        states.teardown()
        if finished:
            break
    assert stop > 1


def test_what_the_registry_says_is_true(tmp_path: Path) -> None:
    RegistryStates.prepared = converted(tmp_path)
    RegistryStates.TestCase.settings = hypothesis_settings(
        max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck)
    )
    RegistryStates.TestCase().runTest()
