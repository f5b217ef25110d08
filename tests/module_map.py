"""Writes the picture of the packages and modules from the import graph into docs/architecture.md.

    python -m tests.module_map      # `make format` does

A line holds modules that may import those of the lines below it, and never each other.
"""

import sys
import textwrap
from functools import cache
from pathlib import Path

import grimp

PACKAGES = ("rocmforge", "api", "pipelines", "runtime")
PAGE = Path(__file__).parents[1] / "docs/architecture.md"
BEGIN, END = "<!-- modules: python -m tests.module_map -->\n", "<!-- /modules -->\n"
WIDTH = 100
DEEPER = (
    "pipelines.conversion",
    "pipelines.validation",
    "pipelines.benchmark",
    "pipelines.simulation",
)
"""Packages within a package that are drawn, too."""


def picture() -> str:
    """The packages with what they import, and each one's modules from the top to the bottom."""
    graph = grimp.build_graph(*PACKAGES)
    parts = [_packages(graph)]
    parts += [_modules(graph, package) for package in (*PACKAGES, *DEEPER)]
    return "```text\n" + "\n\n".join(parts) + "\n```\n"


def page_with_picture(page: str) -> str:
    """The page with the picture as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + picture() + END + after


def _packages(graph: grimp.ImportGraph) -> str:
    lines = []
    for package in PACKAGES:
        imported = [
            other for other in PACKAGES if other != package and _imports(graph, package, other)
        ]
        lines.append(f"{package:<12} -> {', '.join(imported) or 'none of the others'}")
    return "\n".join(lines)


def _imports(graph: grimp.ImportGraph, importer: str, imported: str) -> bool:
    return graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)


def _modules(graph: grimp.ImportGraph, package: str) -> str:
    children = sorted(graph.find_children(package))
    below = {
        one: [other for other in children if other != one and _imports(graph, one, other)]
        for one in children
    }

    @cache
    def level(module: str) -> int:
        return 1 + max((level(other) for other in below[module]), default=0)

    lines = [f"{package}/"]
    for number in sorted({level(module) for module in children}, reverse=True):
        names = [
            module.rpartition(".")[2] + ("/" if graph.find_children(module) else "")
            for module in children
            if level(module) == number
        ]
        lines += textwrap.wrap(
            "  ".join(names),
            WIDTH,
            initial_indent=f"{number:>4}  ",
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page_with_picture(PAGE.read_text()))
    sys.exit(0)
