"""The picture and the file names of the documentation are those of the tree."""

import re
from pathlib import Path

import pytest

from tests.module_map import PAGE, page_with_picture

ROOT = PAGE.parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(
    r"`((?:api|pipelines|rocmforge|runtime|tests|deploy|docs)/[\w./-]+(?:/|\.(?:py|cc|h|md|json|ya?ml)))`"
)
NOT_IN_THE_TREE = ("runtime/ops/gpu/compiled/", "tests/ops/test_NAME.py")
"""What is built, and a pattern."""


def test_the_picture_is_drawn_from_the_import_graph() -> None:
    assert page_with_picture(PAGE.read_text()) == PAGE.read_text(), "run python -m tests.module_map"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    missing = [one for one in FILE.findall(page.read_text()) if not (ROOT / one).exists()]
    assert [one for one in missing if one not in NOT_IN_THE_TREE] == []
