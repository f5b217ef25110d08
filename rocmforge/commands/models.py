"""List the published models and the versions that are kept of each."""

import argparse

from rocmforge.options import add_settings, settings_of

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
    rows = []
    for name in registry.names():
        current = registry.current(name)
        for model in registry.versions(name):
            if current is None:
                state = "retired"
            else:
                state = "current" if model.version == current.version else "kept"
            rows.append(
                (
                    name,
                    str(model.version),
                    f"{state}, loaded" if model.is_loaded() else state,
                    model.manifest.created_at[:16].replace("T", " "),
                    model.manifest.architecture,
                    f"{model.manifest.parameters / 1e6:,.0f} M",
                    f"{model.manifest.context_length:,}",
                    f"{model.manifest.weights.size / 1e6:,.0f} MB",
                    " ".join(model.manifest.block_formats),
                )
            )
    if not rows:
        print(f"No model is published under {settings.models_folder}: rocmforge prepare MODEL.gguf")
        return
    table = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    for row in table:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
