"""List the published models and their versions, or models to prepare that are on this machine."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rocmforge.options import add_settings, settings_of

if TYPE_CHECKING:
    from runtime.registry import PublishedModel
    from runtime.settings import Settings

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
FOUND_HEADINGS = ("NAME", "SIZE", "PATH")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--found",
        action="store_true",
        help="instead: list what the caches of the Hub, Ollama, LM Studio and llama.cpp hold",
    )
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from runtime.registry import Registry

    settings = settings_of(options)
    if options.found:
        _list_found(settings)
        return
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
    _print_table([HEADINGS, *rows])
    for problem in problems:
        print(f"\n{problem}")


def _list_found(settings: "Settings") -> None:
    """Print each model by the name that `serve`, `prepare` and the others take."""
    from pipelines.model_files.found import found_models
    from pipelines.model_files.hub import cached_models

    found = [(f"hf:{repo}/{file}", path) for repo, file, path in cached_models()]
    found += [(each.label, each.path) for each in found_models(settings)]
    if not found:
        print("No model is found on this machine: rocmforge pull hf:OWNER/REPO:QUANT")
        return
    rows = [(name, f"{path.stat().st_size / 1e6:,.0f} MB", str(path)) for name, path in found]
    _print_table([FOUND_HEADINGS, *rows])


def _print_table(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


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
