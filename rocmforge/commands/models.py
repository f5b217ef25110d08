"""List the published models."""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipelines.registry import Registry

    settings = settings_of(options)
    models = Registry(settings).models()
    if not models:
        print(f"No model is published under {settings.models_folder}: rocmforge prepare MODEL.gguf")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "VERSION", "ARCHITECTURE", "PARAMETERS", "CONTEXT", "SIZE", "FORMATS"):
        table.add_column(heading, no_wrap=True)
    for model in models:
        manifest = model.manifest
        table.add_row(
            model.name,
            str(model.version),
            manifest.architecture,
            f"{manifest.parameters / 1e6:,.0f} M",
            f"{manifest.context_length:,}",
            f"{manifest.weights.size / 1e6:,.0f} MB",
            " ".join(manifest.block_formats),
        )
    Console(soft_wrap=True).print(table)
