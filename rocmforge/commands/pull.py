"""Fetch a model of the Hugging Face Hub into its cache and print its path.

MODEL is hf:OWNER/REPO:QUANT, hf:OWNER/REPO or hf:OWNER/REPO/FILE.gguf, with @REVISION behind REPO
if it is not main. An interrupted download goes on. Models that Ollama, LM Studio or llama.cpp hold
(ollama:NAME:TAG, lmstudio:..., llamacpp:...) are found where they are.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="for example hf:OWNER/REPO:Q4_K_M")
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from pipelines.model_files.locate import located
    from rocmforge.progress import shown
    from runtime.errors import ModelNotFound

    with shown() as report:
        found = located(options.model, settings_of(options), report)
    if found is None:
        raise ModelNotFound(
            f"{options.model} is not found; name hf:OWNER/REPO:QUANT, or a model that "
            "`rocmforge models --found` lists"
        )
    print(found.path)
