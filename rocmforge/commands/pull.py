"""Fetch a model of the Hugging Face Hub, or a published one from an object storage.

Prints its path: of the GGUF in the Hub's cache, or of the folder that is published on this machine.

MODEL is hf:OWNER/REPO:QUANT, hf:OWNER/REPO or hf:OWNER/REPO/FILE.gguf, with @REVISION behind REPO
if it is not main. An interrupted download goes on. Models that Ollama, LM Studio or llama.cpp hold
(ollama:NAME:TAG, lmstudio:..., llamacpp:...) are found where they are. s3://BUCKET/FOLDER/NAME is
what `rocmforge push` has put there: every file is compared with its SHA-256, and the version
becomes the current one here.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="for example hf:OWNER/REPO:Q4_K_M")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="make what is in a storage the next version, even of a model that came from elsewhere",
    )
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from rocmforge.progress import shown
    from runtime.errors import ModelNotFound
    from runtime.storage.address import Address, is_address
    from runtime.storage.pull import pull_in_child

    settings = settings_of(options)
    with shown() as report:
        if is_address(options.model):
            address = Address.of(options.model)
            print(pull_in_child(address, settings, report, report.amount, replace=options.replace))
            return
        from pipelines.model_files.locate import located

        found = located(options.model, settings, report)
    if found is None:
        raise ModelNotFound(
            f"{options.model} is not found; name hf:OWNER/REPO:QUANT, or a model that "
            "`rocmforge models --found` lists"
        )
    print(found.path)
