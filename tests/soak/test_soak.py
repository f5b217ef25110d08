"""The short form of `make soak`, and its verdict."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.live.server import Vitals, live_server, options_of
from tests.marked_page import write_between
from tests.models import write_tiny_llama
from tests.soak.run import BEGIN, END, FEW_THREADS, MEBIBYTE, Soaked, soak, table
from tests.soak.trend import slope

CALM = Vitals(
    resident=300 * MEBIBYTE,
    anonymous=200 * MEBIBYTE,
    threads=20,
    descriptors=12,
    pages=0,
    requests=0,
)


@pytest.mark.slow
def test_all_comes_back_after_mixed_traffic(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with live_server(model, tmp_path, *options_of(2048, *FEW_THREADS)) as server:
        soaked = soak(server, seconds=5, every=0.5, clients=6, warm_up=2)
    # Seconds say nothing of a slope; what is held before and after does.
    assert soaked.faults(most_bytes_an_hour=float("inf")) == []
    assert soaked.streams > 0
    assert sum(soaked.done.values()) > 0


def test_one_odd_sample_in_four_moves_no_slope() -> None:
    seconds = [10.0 * i for i in range(40)]
    values = [5.0 + 0.25 * second for second in seconds]
    values[::4] = [1e9] * 10
    assert slope(seconds, values) == pytest.approx(0.25)
    assert slope([], []) == slope([1.0], [2.0]) == 0


def soaked_of(*samples: Vitals) -> Soaked:
    return Soaked(tuple(10.0 * i for i in range(len(samples))), samples, {"whole": 3}, 1)


def test_a_calm_run_passes() -> None:
    assert soaked_of(*[CALM] * 100).faults() == []


def test_a_leak_is_seen_by_its_slope() -> None:
    leaking = [replace(CALM, anonymous=CALM.anonymous + i * MEBIBYTE // 5) for i in range(99)]
    assert soaked_of(*leaking, CALM).faults() == ["memory grows by 72.0 MiB an hour"]


@pytest.mark.parametrize("name", ["threads", "descriptors", "pages"])
def test_what_is_not_given_back_is_named(name: str) -> None:
    after = replace(CALM, **{name: getattr(CALM, name) + 1})
    (fault,) = soaked_of(*[CALM] * 9, after).faults()
    assert fault.startswith(name)


def test_the_figures_stand_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_between(page, BEGIN, table(soaked_of(*[CALM] * 9)), END)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| threads | 20 | 20 | 20 | +0.00 |" in text

    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        write_between(page, BEGIN, "text", END)
