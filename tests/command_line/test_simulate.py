"""`rocmforge simulate`: its tables are those of the documentation, and its options fit."""

import re
from pathlib import Path

import pytest

from pipelines.simulation.chats import Chat, Turn, trace_lines
from pipelines.simulation.measured import Measured
from pipelines.simulation.routers import ROUTERS
from pipelines.simulation.traffic import Traffic, draw
from rocmforge.__main__ import main
from tests.models import write_tiny_llama

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
FEW = ["--replicas", "2", "--chats", "4"]


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\| \d", line)]


def test_the_documented_figures_come_out_bit_for_bit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--replicas", "2"]) == 0
    simulated = rows(capsys.readouterr().out)
    assert len(simulated) == len(ROUTERS)
    assert set(simulated) <= set(rows(PAGE.read_text()))


@pytest.mark.long
def test_the_whole_page_comes_out_bit_for_bit(tmp_path: Path) -> None:
    page = tmp_path / "simulation.md"
    page.write_text(re.sub(r"^\| +\d.*\n", "", PAGE.read_text(), flags=re.MULTILINE))
    assert main(["simulate", "--document", str(page)]) == 0
    assert page.read_text() == PAGE.read_text()
    assert page.with_suffix(".png").stat().st_size > 0


def test_the_router_can_weigh_pages_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for weight in ("0", "5"):
        given = ["simulate", *FEW, "--router", "prefix-aware", "--prefix-weight", weight]
        assert main(given) == 0
        tables.append(rows(capsys.readouterr().out))
    assert tables[0] != tables[1]


def test_a_trace_takes_the_place_of_drawn_chats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *FEW, "--router", "least-queue", "prefix-aware"]) == 0
    drawn = capsys.readouterr().out
    trace = tmp_path / "trace.jsonl"
    trace.write_bytes(trace_lines(draw(Traffic(chats=4), 2)))
    given = ["simulate", "--replicas", "2", "--trace", str(trace)]
    assert main([*given, "--router", "least-queue", "prefix-aware"]) == 0
    assert capsys.readouterr().out == drawn


def test_results_are_saved(tmp_path: Path) -> None:
    assert main(["simulate", *FEW, "--save", str(tmp_path / "runs.json")]) == 0
    assert '"first_token_p95_ms"' in (tmp_path / "runs.json").read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--router", "random"], "--router takes round-robin, least-queue,"),
        (["--replicas", "0"], "--replicas takes whole numbers from 1"),
        (["--chats", "0"], "there are no such chats"),
        (["--trace", "t.jsonl", "--seed", "3"], "--seed is of drawn chats and does nothing beside"),
        (["--measure", "m", "--router", "x"], "--router does nothing beside --measure"),
        (["--prefix-weight", "nan"], "--prefix-weight takes a number from 0"),
        (["--event-delay-ms", "-1"], "--event-delay-ms takes a whole number from 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    given: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *given]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.long
def test_a_model_is_measured_and_its_server_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = write_tiny_llama(tmp_path / "tiny.gguf", context=4096)
    small = ["--home", str(tmp_path / "home"), "--cache-tokens", "4096", "--max-batch-size", "8"]
    times = tmp_path / "times.json"
    assert main(["simulate", "--measure", str(gguf), *small, "--save", str(times)]) == 0
    measured = Measured.read(times)
    assert measured.model == "tiny"
    assert {step.rows for step in measured.steps} == {1, 2, 4, 8}
    assert measured.routing.index_bytes_per_page > 16
    chats = tuple(Chat(50 * n, "a", 200, (Turn(20, 5), Turn(9, 5, 100))) for n in range(3))
    trace = tmp_path / "trace.jsonl"
    trace.write_bytes(trace_lines(chats))
    capsys.readouterr()
    given = ["simulate", "--validate", str(gguf), *small, "--times", str(times)]
    assert main([*given, "--trace", str(trace)]) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert table[2][:3] == ["| requests", "6", "6"]
    assert table[3][0] == "| hits"
