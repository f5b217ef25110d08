"""A server follows the current version of its model, whatever fails on the way."""

import itertools
import logging
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.served_models import ServedModel, ServedModels
from api.takeover import MAX_PAUSE_SECONDS, Takeover
from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.errors import DeviceError
from runtime.gguf import GGUFFile
from runtime.registry import Registry
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama


class Server:
    """The parts of a server that follows `tiny`; `failing` are versions that do not load."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.registry = Registry(settings)
        self.gguf = folder / "tiny.gguf"
        self.loads: list[str] = []
        self.failing: dict[str, BaseException] = {}
        self.publish()
        self.models = ServedModels()
        served = self.registry.resolve("tiny")
        self.models.load(lambda: self._load(served))
        self.loads.clear()
        self.takeover = Takeover(
            "tiny",
            lambda: self.registry.pointed_at("tiny"),
            self.models,
            self._load,
            served,
        )

    @property
    def served(self) -> int | None:
        model = self.models.model
        return None if model is None else model.version

    def publish(self) -> Path:
        self.gguf.unlink(missing_ok=True)
        seed = len(self.registry.versions("tiny"))
        staging = self.registry.new_staging("tiny", "test")
        write_tiny_llama(self.gguf, seed=seed)
        return self.registry.publish(staging, convert(Source(self.gguf), staging, "tiny"))

    def _load(self, folder: Path) -> ServedModel:
        self.loads.append(folder.name)
        if (error := self.failing.get(folder.name)) is not None:
            raise error
        session = Session(folder, settings=self.settings)
        engine = Engine(session, end_of_generation=frozenset(), settings=self.settings)
        engine.start()
        tokenizer = Tokenizer.from_gguf(GGUFFile.open(session.manifest.weights_path(folder)))
        return ServedModel("tiny", engine, tokenizer, version=int(folder.name))


@pytest.fixture
def server(tmp_path: Path, settings: Settings) -> Iterator[Server]:
    server = Server(settings, tmp_path)
    yield server
    server.models.stop()


def test_what_becomes_current_is_taken_over(server: Server) -> None:
    server.takeover.look(0)
    assert (server.served, server.loads) == (1, [])
    server.publish()
    server.takeover.look(1)
    server.takeover.look(2)
    assert (server.served, server.loads) == (2, ["2"])
    server.registry.retire("tiny")
    server.takeover.look(3)
    assert (server.served, server.loads) == (2, ["2"])


@pytest.mark.parametrize(
    "error",
    [DeviceError("no memory"), MemoryError(), SystemExit(1)],
    ids=lambda e: type(e).__name__,
)
def test_what_failed_is_tried_again_after_pauses_that_grow(
    server: Server, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish()
    server.failing["2"] = error
    attempts: list[int] = []
    for second in range(1000):
        before = len(server.loads)
        server.takeover.look(second)
        if len(server.loads) > before:
            attempts.append(second)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_PAUSE_SECONDS]
    assert server.served == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "version 2 of tiny is not served" in caplog.text
    server.failing.clear()
    server.takeover.look(2000)
    assert server.served == 2


def test_going_back_to_what_is_served_loads_nothing(server: Server) -> None:
    server.publish()
    server.failing["2"] = DeviceError("no memory")
    server.takeover.look(0)
    server.registry.rollback("tiny")
    server.takeover.look(1)
    server.takeover.look(2)
    assert (server.served, server.loads) == (1, ["2"])
    server.registry.rollback("tiny", 2)
    server.failing.clear()
    server.takeover.look(3)  # at once, as it was called current anew
    assert server.served == 2


def test_another_version_is_tried_at_once_while_one_waits(server: Server) -> None:
    server.publish()
    server.failing["2"] = DeviceError("no memory")
    server.takeover.look(0)
    server.publish()
    server.takeover.look(0.1)
    assert server.served == 3


def test_a_broken_version_is_told_once_and_taken_when_it_is_whole(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = server.publish() / "manifest.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b"tiny", b"t\xffny"))
    for second in range(5):
        server.takeover.look(second)
    assert (server.served, server.loads) == (1, [])
    assert len(caplog.records) == 1
    assert "version 2 of tiny is not served: tiny@2 cannot be loaded" in caplog.text
    manifest.write_bytes(content)
    server.takeover.look(6)
    assert server.served == 2


def test_a_moment_without_file_descriptors_passes(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        server.takeover.look(0)
        server.takeover.look(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert server.served == 1
    assert "Too many open files" in caplog.text
    server.takeover.look(2)
    assert server.served == 2


def test_a_current_that_is_a_loop_of_links_changes_nothing(server: Server) -> None:
    current = server.settings.models_folder / "tiny" / "current"
    current.unlink()
    current.symlink_to("current")
    server.takeover.look(0)
    assert (server.served, server.registry.models()) == (1, [])
    server.registry.rollback("tiny")
    server.takeover.look(1)
    assert (server.served, server.loads) == (1, [])
