"""docs/reliability.md names every fault point, and only tests that exist."""

import re
from pathlib import Path

import pytest

from tests.faults.points import POINTS
from tests.soak.run import BEGIN, END

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()


@pytest.mark.parametrize("name", [point.name for point in POINTS])
def test_every_fault_point_stands_in_the_page(name: str) -> None:
    assert name in PAGE


def test_every_file_and_target_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", PAGE))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    targets = set(re.findall(r"`make ([\w-]+)", PAGE))
    makefile = (ROOT / "Makefile").read_text()
    assert [one for one in sorted(targets) if f"\n{one}:" not in makefile] == []


def test_the_soak_has_its_place() -> None:
    assert PAGE.index(BEGIN) < PAGE.index(END)
