"""A GGUF becomes a published model: read, convert, validate, publish."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from pipelines.architectures import describe
from pipelines.convert import convert
from pipelines.validation import validate_apart
from runtime.errors import ModelNotFound, PreparationError
from runtime.gguf import GGUFFile
from runtime.manifest import CheckResult
from runtime.registry import PublishedModel, Registry, model_name
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer, TokenizerCache


def prepare(gguf: Path, settings: Settings, progress: Callable[[str], None]) -> Path:
    """Prepare a GGUF and return its published folder; one that is published already is not redone.

    Whatever version the file has becomes the current one of its name.
    `progress` is called with the name of each step as it begins. Raises ModelNotFound without
    such a file; GGUFError or UnsupportedModel before anything is written; PreparationError when a
    check fails or the disk does, which leaves earlier versions as they are.
    """
    if not gguf.is_file():
        raise ModelNotFound(f"{gguf} does not exist; check the path of the GGUF file")
    registry = Registry(settings)
    if (published := registry.find(gguf)) is not None:
        return _current(registry, published, gguf)
    progress(f"Reading {gguf.name}")
    expect_supported(gguf, settings)
    name = model_name(gguf)
    try:
        with registry.preparing(name):
            if (published := registry.find(gguf)) is not None:  # by whom we waited for
                return _current(registry, published, gguf)
            staging = registry.new_staging(name, "prepare")
            try:
                progress("Converting")
                manifest = convert(gguf, staging, name)
                results = validate_apart(staging, settings, progress)
                raise_failed(name, results)
                progress("Publishing")
                return registry.publish(staging, msgspec.structs.replace(manifest, checks=results))
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise PreparationError(f"{name} cannot be written to {registry.folder}: {error}") from None


def _current(registry: Registry, published: PublishedModel, gguf: Path) -> Path:
    """A version of this file, made current where another is: who prepares it wants to serve it."""
    name = published.name
    current = registry.current(name)
    if name == model_name(gguf) and (current is None or current.version != published.version):
        registry.rollback(name, published.version)
    return published.folder


def expect_supported(gguf: Path, settings: Settings) -> None:
    """Raise GGUFError or UnsupportedModel, by name, for a file that could not be served."""
    file = GGUFFile.open(gguf)
    describe(file)
    Tokenizer.from_gguf(file, TokenizerCache(settings.cache_folder / "tokenizers"))


def raise_failed(name: str, results: tuple[CheckResult, ...]) -> None:
    """Raise PreparationError for the first check that failed."""
    for result in results:
        if not result.passed:
            raise PreparationError(
                f"{name} failed its {result.name} check, nothing was published: {result.summary}"
            )
