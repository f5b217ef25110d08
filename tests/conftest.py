"""Fixtures that every house may use."""

import sys
from pathlib import Path

import pytest

from rocmforge.sample import fetch
from runtime.settings import Settings


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The sample model's GGUF, fetched once and kept where `make serve` keeps it."""
    return fetch(
        Settings.from_environment().cache_folder, lambda step: print(step, file=sys.stderr)
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose home is the test's own, with a small cache."""
    return Settings(home=tmp_path / "home", cache_tokens=1024, threads=2)
