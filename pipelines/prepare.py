"""A GGUF becomes a published model: read, convert, validate, publish."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from pipelines.conversion.architectures import describe
from pipelines.conversion.convert import convert, now, versions
from pipelines.preparation import Order, Prepared
from pipelines.validation import CHECKS, validate_in_child
from runtime.errors import BrokenModel, ModelNotFound, NameTaken, PreparationError
from runtime.gguf import GGUFFile, gguf_at
from runtime.loading import tokenizer_cache
from runtime.manifest import MANIFEST_NAME, CheckResult, Manifest, WeightsFile
from runtime.packed_file import file_size, layout_of
from runtime.packed_weights import packed_path
from runtime.progress import Amount, StepReport, reported, uncounted
from runtime.registry import PublishedModel, Registry, expect_name, is_same_model, model_name
from runtime.settings import Settings
from runtime.source import Source, remember
from runtime.tokenizer import Tokenizer
from runtime.verification import verify_packed


def prepare(
    gguf: Path,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
    *,
    name: str | None = None,
    replace: bool = False,
) -> Path:
    """Prepare a GGUF and return its published folder; one that is published already is not redone.

    gguf: the file, the first one of a model in pieces, or the folder of one model.
    name: what the model is called; by default as the file is. replace: whether it may become the
    next version of a model that it does not resemble. Whatever version the file has becomes the
    current one of its name. `progress` is called with the name of each step as it begins, `amount`
    with the bytes of it that are done.

    Raises ModelNotFound without such a file; InvalidName, NameTaken, GGUFError or UnsupportedModel
    before anything is written; PreparationError when a check fails or the disk does, which leaves
    earlier versions as they are.
    """
    found = gguf_at(gguf)
    if found is None:
        raise ModelNotFound(f"{gguf} does not exist; check the path of the GGUF file")
    gguf = found
    registry = Registry(settings)
    called = model_name(gguf) if name is None else expect_name(name)
    try:
        source = Source(gguf)
        expect_utf8(source.file_path)
        if (published := registry.prepared_from(source, name)) is not None:
            return make_current(registry, published, settings)
        progress(f"Reading {gguf.name}")
        expect_supported(source, settings)
        with registry.preparing(called):
            if (
                published := registry.prepared_from(source, name)
            ) is not None:  # by whom we awaited
                return make_current(registry, published, settings)
            if not replace:
                expect_own_name(registry, source, called)
            staging = registry.new_staging(called, "prepare")
            try:
                manifest = link_known(registry, source, staging, called, settings)
                if manifest is None:
                    source.read(amount)
                    if needed := to_write(source, settings):
                        progress(needed)
                    progress("Converting")
                    manifest = convert(source, staging, called, weights_copy=settings.weights_copy)
                    results = validate_in_child(staging, settings, progress, amount)
                    raise_failed(called, results)
                    manifest = msgspec.structs.replace(manifest, checks=results)
                progress("Publishing")
                return registry.publish(staging, manifest)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise PreparationError(
            f"{called} cannot be written to {registry.folder}: {error}"
        ) from None


def to_write(source: Source, settings: Settings) -> str:
    """Return which large files preparing will write, and how much room there is; empty if none."""
    folder = settings.packed_folder
    if settings.weights == "mapped" or packed_path(folder, source.sha256).exists():
        return ""
    if not (layout := layout_of(source.gguf)):
        return ""
    free = shutil.disk_usage(settings.home).free
    return (
        f"Will write {file_size(layout) / 1e6:,.1f} MB of packed weights to {folder}, where "
        f"{free / 1e9:.1f} GB are free (--weights mapped writes none)"
    )


def carry_out(order: Order, report: Callable[[StepReport], None]) -> Prepared:
    """Prepare, in a child process."""
    for content in order.contents:
        remember(content)
    return Prepared(
        prepare(
            order.gguf,
            order.settings,
            *reported(report),
            name=order.name,
            replace=order.replace,
        )
    )


def expect_utf8(path: Path) -> None:
    """Raise PreparationError for a path that no manifest can hold, which is JSON."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise PreparationError(
            f"the path {str(path)!a} is not UTF-8; rename the file or its folder"
        ) from None


def make_current(registry: Registry, published: PublishedModel, settings: Settings) -> Path:
    """Return the folder of a version after making it current: a prepared file is to be served.

    A packed copy of its weights that is damaged is made again.
    """
    if settings.weights == "packed":
        verify_packed(published.folder, published.manifest, settings.packed_folder)
    current = registry.current(published.name)
    if current is None or current.version != published.version:
        registry.rollback(published.name, published.version)
    return published.folder


def link_known(
    registry: Registry, source: Source, staging: Path, name: str, settings: Settings
) -> Manifest | None:
    """Fill a staging folder with links to the files of another name's version of the same content.

    Nothing is checked anew, since the checks read these very files. None, with the folder empty,
    where there is no such version, or it was made or checked by other programs, or has the user's
    own file where a copy is asked for.
    """
    known = registry.find(source, name)
    if known is None or known.manifest.versions != versions():
        return None
    weights = known.manifest.weights
    passed = {check.name for check in known.manifest.checks if check.passed}  # none is accepted
    if passed != CHECKS.keys():
        return None
    if weights.linked_name is None and not known.is_made_of(source.path):
        return None
    if settings.weights_copy == "copy" and weights.stored_as not in ("reflink", "copy"):
        return None
    try:
        known.verify()
        for file in known.folder.iterdir():
            if file.name != MANIFEST_NAME:
                os.link(file, staging / file.name)
    except (BrokenModel, OSError):
        for file in staging.iterdir():
            file.unlink()
        return None
    return msgspec.structs.replace(
        known.manifest,
        name=name,
        weights=_named_by(source, weights),
        created_at=now(),
    )


def _named_by(source: Source, weights: WeightsFile) -> WeightsFile:
    """Return the identity of the same content with the paths of this source."""
    paths = [str(file.path) for file in source.files]
    pieces = (
        msgspec.structs.replace(piece, path=path)
        for piece, path in zip(weights.pieces, paths, strict=False)
    )
    return msgspec.structs.replace(weights, path=paths[0], pieces=tuple(pieces))


def expect_own_name(registry: Registry, source: Source, name: str) -> None:
    """Raise NameTaken if the versions of a name belong to another model than this GGUF.

    A file that was prepared under the name before may become any model. Another file must say that
    it is of the same architecture, name (general.name) and vocabulary.
    """
    versions = [registry.current(name), *registry.versions(name)]
    published = next(filter(None, versions), None)
    if published is None or published.is_made_of(source.path):
        return
    weights = published.manifest.weights_paths(published.folder)
    if not is_same_model(source.gguf, GGUFFile.open(*weights)):
        raise NameTaken(
            f"{name} is already the name of another model, made of "
            f"{published.manifest.weights.path}; give {source.path} a name of its own (--name), or "
            f"make it the next version of {name} (--replace)"
        )


def expect_supported(source: Source, settings: Settings) -> None:
    """Raise GGUFError or UnsupportedModel, by name, for a file that could not be served."""
    describe(source.gguf)
    Tokenizer.from_gguf(source.gguf, tokenizer_cache(settings))


def raise_failed(name: str, results: tuple[CheckResult, ...]) -> None:
    """Raise PreparationError for the first check that failed and was not accepted."""
    for result in results:
        if not result.allows_publishing:
            raise PreparationError(
                f"{name} failed its {result.name} check, nothing was published: {result.summary}"
                f"{acceptance(result)}"
            )


def acceptance(result: CheckResult) -> str:
    """Return how a failed check can be accepted, as the end of a sentence; empty if it cannot."""
    if result.measured is None:
        return ""
    limit = f"{result.measured:.2g}"
    if float(limit) < result.measured:
        limit = f"{1.1 * result.measured:.2g}"
    return f"; if that is good enough, --accept-check {result.name}={limit} publishes it"
