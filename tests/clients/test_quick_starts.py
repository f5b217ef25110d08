"""The short form of `make clients`: the quick starts whose packages are in this environment."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.clients.environment import Environment, versions
from tests.clients.run import CLIENTS, Asked, Client, ask, failures_of, table
from tests.live.server import LiveServer, live_server, options_of

HERE = Path(__file__).parent
INSTALLED = {"with_openai.py": "openai", "with_pydantic_ai.py": "pydantic_ai"}
"""Modules that the development's environment has, by the quick start that imports them."""


@pytest.fixture(scope="module")
def server(
    sample_model: Path, sample_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("served")
    with live_server(sample_model, folder, *options_of(4096), home=sample_home) as server:
        yield server


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize("quick_start", INSTALLED)
def test_a_quick_start_works(quick_start: str, server: LiveServer) -> None:
    if find_spec(INSTALLED[quick_start]) is None:
        pytest.skip("needs the dev extra: `make check` installs it")
    (client,) = (client for client in CLIENTS if client.quick_start == quick_start)
    asked = ask(client, Environment(Path(sys.executable)), server, seconds=120)
    assert failures_of([asked]) == []
    assert asked.cell("chat") == "works"


def test_every_quick_start_is_a_row_with_a_version() -> None:
    assert {one.name for one in (HERE / "quick_starts").glob("with_*")} == {
        client.quick_start for client in CLIENTS
    }
    assert {client.package for client in CLIENTS} <= set(versions())


def test_what_fails_is_told_in_the_table() -> None:
    asked = Asked(Client("one", "openai", "one.py"), {"chat": None, "stream": "no", "models": "no"})
    *_, row = table([asked]).splitlines()
    assert row.startswith("| one |")
    assert row.endswith("| works | fails |  |  |  | models: fails |")
    assert failures_of([asked]) == ["one, stream: no", "one, models: no"]
