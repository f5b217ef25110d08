"""Fixtures of all tests."""

import os
import sys
from pathlib import Path

# Before NumPy is imported: its threads spin while they wait, and the tests' processes fill the
# processors already. Processes that tests start inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest

from pipelines.conversion.convert import convert
from pipelines.preparation import prepared as prepared_model
from runtime.files import locked
from runtime.gguf import GGUFFile
from runtime.sample_model import fetch
from runtime.settings import Settings
from runtime.source import Source
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama

# An example that takes long while the machine is busy is no failure.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The sample model's GGUF, fetched once and kept where `make serve` keeps it."""
    return fetch(
        Settings.from_environment().cache_folder, lambda step: print(step, file=sys.stderr)
    )


@pytest.fixture(scope="session")
def sample_home(sample_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the sample model is prepared, once for all processes of the tests."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    home = folder / "sample" / "home"
    with locked(folder / "sample.lock"):
        prepared_model(str(sample_model), Settings(home=home), lambda _: None)  # if it is not yet
    return home


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose home is the test's own, with a small cache."""
    return Settings(home=tmp_path / "home", cache_tokens=1024, threads=2)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def prepared(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, converted."""
    folder = tmp_path_factory.mktemp("prepared")
    convert(Source(tiny_gguf), folder, "tiny")
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_gguf: Path) -> Tokenizer:
    return Tokenizer.from_gguf(GGUFFile.open(tiny_gguf))
