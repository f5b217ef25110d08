"""Texts of several requests share steps, and none waits for another's end."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.conversion.convert import convert
from runtime.embedding_engine import EmbeddingEngine
from runtime.errors import EngineUnavailable
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import StepInputs
from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import write_tiny_model


class RecordedSession(Session):
    """Notes the first token of each text of a step."""

    def __init__(self, folder: Path, *, settings: Settings) -> None:
        super().__init__(folder, settings=settings)
        self.steps: list[list[int]] = []

    def run(self, inputs: StepInputs) -> NDArray[np.float32]:
        self.steps.append(inputs.token_ids[inputs.row_starts[:-1]].tolist())
        return super().run(inputs)


@pytest.fixture
def session(tmp_path: Path, settings: Settings) -> RecordedSession:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    path = write_tiny_model(tmp_path / "tiny.gguf", TINY_ENCODERS["bert"])
    convert(Source(path), prepared, "tiny")
    return RecordedSession(prepared, settings=settings)


def test_requests_take_turns(session: RecordedSession, settings: Settings) -> None:
    small = msgspec.structs.replace(settings, token_budget=20)
    engine = EmbeddingEngine(session, small)
    many = engine.submit([[1] * 8, [2] * 8, [3] * 8, [4] * 8])
    one = engine.submit([[5] * 8])
    gone = engine.submit([[6] * 8])
    gone.cancel()
    engine.start()
    assert len(many.result(10)) == 4
    assert len(one.result(10)) == 1
    engine.stop()
    assert session.steps == [[1, 5], [2, 3], [4]]
    with pytest.raises(EngineUnavailable):
        engine.submit([[1]])
