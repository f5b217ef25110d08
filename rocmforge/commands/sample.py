"""Fetch the sample model (98 MB, once) and print its path."""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from rocmforge.progress import shown
    from runtime.sample_model import fetch

    with shown() as report:
        path = fetch(settings_of(options).cache_folder, report)
    print(path)
