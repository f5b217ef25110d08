"""The file that a model's name means: fetched from the Hub, or held by another program."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from pipelines.model_files.found import expect_found, find
from pipelines.model_files.names import HUB, HubName, hub_name, scheme_of
from runtime.child_process import run_in_child
from runtime.errors import ChildDied, DownloadError
from runtime.settings import Settings
from runtime.source import Content, remember

FUNCTION = "pipelines.model_files.locate:carry_out"


class Order(msgspec.Struct, frozen=True):
    """What to fetch."""

    name: str


class Progress(msgspec.Struct, frozen=True):
    """What has been fetched so far, in words."""

    text: str


class Fetched(msgspec.Struct, frozen=True):
    """The file, and the contents that were read while it was checked."""

    path: Path
    contents: tuple[Content, ...]


class Located(msgspec.Struct, frozen=True):
    """A model's file on this machine."""

    path: Path
    published_name: str | None
    """What it is to be called, where the file has no name of its own."""


def expect_name(text: str, settings: Settings) -> bool:
    """Whether a text names a model of the Hub or of another program.

    Raises ModelNotFound for a name that nothing can have, or that the program does not have.
    """
    scheme = scheme_of(text)
    if scheme == HUB:
        hub_name(text)
    elif scheme is not None:
        expect_found(text.partition(":")[2], settings, scheme)
    else:
        return find(text, settings) is not None
    return True


def located(text: str, settings: Settings, report: Callable[[str], None]) -> Located | None:
    """Return the file of a model of the Hub or of another program; None for other names.

    A model of the Hub is fetched if it is not in its cache. A name without a scheme is looked for
    among the models of all programs. Raises ModelNotFound and DownloadError.
    """
    scheme = scheme_of(text)
    if scheme == HUB:
        return Located(_fetch(text, report), None)
    if scheme is None:
        model = find(text, settings)
        return None if model is None else Located(model.path, model.published_name)
    model = expect_found(text.partition(":")[2], settings, scheme)
    return Located(model.path, model.published_name)


def carry_out(order: Order, report: Callable[[Progress], None]) -> Fetched:
    """Fetch, in a child process, which alone imports what speaks to the Hub."""
    from pipelines.model_files.hub import fetched

    path, contents = fetched(hub_name(order.name), lambda text: report(Progress(text)))
    return Fetched(path, contents)


def _fetch(text: str, report: Callable[[str], None]) -> Path:
    name: HubName = hub_name(text)
    try:
        answer = run_in_child(
            FUNCTION,
            Order(text),
            lambda progress: report(progress.text),
            progress=Progress,
            answer=Fetched,
        )
    except ChildDied as error:
        raise DownloadError(f"{name} is not fetched: {error}; run the command again") from None
    for content in answer.contents:
        remember(content)
    return answer.path
