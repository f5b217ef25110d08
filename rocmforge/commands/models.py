"""List the published models."""

import argparse

from rocmforge.options import add_settings, settings_of

HEADINGS = ("NAME", "VERSION", "ARCHITECTURE", "PARAMETERS", "CONTEXT", "SIZE", "FORMATS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from pipelines.registry import Registry

    settings = settings_of(options)
    rows = [
        (
            model.name,
            str(model.version),
            model.manifest.architecture,
            f"{model.manifest.parameters / 1e6:,.0f} M",
            f"{model.manifest.context_length:,}",
            f"{model.manifest.weights.size / 1e6:,.0f} MB",
            " ".join(model.manifest.block_formats),
        )
        for model in Registry(settings).models()
    ]
    if not rows:
        print(f"No model is published under {settings.models_folder}: rocmforge prepare MODEL.gguf")
        return
    table = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    for row in table:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
