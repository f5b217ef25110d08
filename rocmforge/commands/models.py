"""List the published models and their versions."""

import argparse
from typing import TYPE_CHECKING

from rocmforge.options import add_settings, settings_of

if TYPE_CHECKING:
    from runtime.registry import PublishedModel

HEADINGS = (
    "NAME",
    "VERSION",
    "STATE",
    "PUBLISHED",
    "ARCHITECTURE",
    "PARAMETERS",
    "CONTEXT",
    "SIZE",
    "FORMATS",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from runtime.registry import Registry

    settings = settings_of(options)
    registry = Registry(settings)
    rows: list[tuple[str, ...]] = []
    problems: list[str] = []
    for name in registry.names():
        current = registry.pointed_at(name)
        for model in registry.versions(name):
            if current is None:
                state = "retired"
            else:
                state = "current" if model.version == current.version else "kept"
            rows.append(_row(model, f"{state}, loaded" if model.is_loaded() else state))
        for broken in registry.broken(name):
            rows.append((name, str(broken.version), "broken", *["-"] * (len(HEADINGS) - 3)))
            problems.append(str(broken.error))
    if not rows:
        print(f"No model is published under {settings.models_folder}: rocmforge prepare MODEL.gguf")
        return
    table = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    for row in table:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    for problem in problems:
        print(f"\n{problem}")


def _row(model: "PublishedModel", state: str) -> tuple[str, ...]:
    manifest = model.manifest
    return (
        model.name,
        str(model.version),
        state,
        manifest.created_at[:16].replace("T", " "),
        manifest.architecture,
        f"{manifest.parameters / 1e6:,.0f} M",
        f"{manifest.context_length:,}",
        f"{manifest.weights.size / 1e6:,.0f} MB",
        " ".join(manifest.block_formats),
    )
