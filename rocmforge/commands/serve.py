"""Serve a model over HTTP."""

import argparse

from rocmforge.options import SERVER, add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a published name or a .gguf file")
    add_settings(parser, *SERVER)


def run(options: argparse.Namespace) -> None:
    raise NotImplementedError
