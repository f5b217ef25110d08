"""Fetches models of the Hugging Face Hub into its own cache, which other programs share.

huggingface_hub reads its variables itself: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. Only
this module imports it, in a process of its own.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    scan_cache_dir,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import HfFileMetadata, http_get, repo_folder_name
from tqdm import tqdm

from pipelines.model_files.names import HubName, chosen, models_of, with_pieces
from runtime.errors import DownloadError, ModelNotFound
from runtime.files import locked
from runtime.source import Content, SourceFile, remember

MAIN = "main"
PARTIAL = ".rocmforge-partial"
"""Suffix of a blob that is not whole yet; what is there is kept, and the rest fetched later."""
SHA256 = re.compile(r"[0-9a-f]{64}")
LISTED = 20

Report = Callable[[str], None]


def fetched(name: HubName, report: Report) -> tuple[Path, tuple[Content, ...]]:
    """Return the GGUF of a model in the Hub's cache, and the contents that were read on the way.

    What is missing is fetched; what an earlier attempt has left is gone on with. Without a
    connection the cache alone is asked. Raises ModelNotFound for a repository, a revision or a
    quant that is not there, DownloadError for everything that stops a download.
    """
    revision = name.revision or MAIN
    try:
        with _refusals(name):
            info = HfApi().model_info(name.repo, revision=name.revision, files_metadata=True)
    except _Unreachable as error:
        return _cached(name, error), ()
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    files = with_pieces(_model(name, list(sizes)))
    if missing := [file for file in files if file not in sizes]:
        raise ModelNotFound(f"{name} lacks {missing[0]}, a piece of its model; name another quant")
    needed = [file for file in files if not _is_cached(name.repo, file, info.sha)]
    _expect_room(name, sum(sizes[file] for file in needed))
    try:
        with _refusals(name):
            for file in needed:
                _fetch(name, file, revision, report)
            paths = [Path(hf_hub_download(name.repo, each, revision=revision)) for each in files]
    except _Unreachable as error:
        raise DownloadError(
            f"{name} is not fetched yet: {error}; run the command again, it goes on where it ended"
        ) from None
    contents = (SourceFile(path).known_content for path in paths)
    return paths[0], tuple(filter(None, contents))


def cached_models() -> list[tuple[str, str, Path]]:
    """Return repository, path in it, and place of every model in the Hub's cache."""
    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = {}
    for repo in repos:
        for revision in sorted(repo.revisions, key=lambda each: each.last_modified):
            held = {
                each.file_path.relative_to(revision.snapshot_path).as_posix(): each.file_path
                for each in revision.files
            }
            for file in models_of(held):
                if file in held:
                    found[repo.repo_id, file] = held[file]
    return [(repo_id, file, path) for (repo_id, file), path in sorted(found.items())]


class _Unreachable(Exception):
    """The Hub does not answer, or must not be asked; the message says why."""


@contextmanager
def _refusals(name: HubName) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that say what to do, and _Unreachable."""
    at = f"{constants.ENDPOINT}/{name.repo}"
    try:
        yield
    except GatedRepoError:
        raise DownloadError(
            f"{name} is gated: accept its terms at {at} and set HF_TOKEN to a token of yours"
        ) from None
    except RevisionNotFoundError:
        raise ModelNotFound(f"{name} has no revision {name.revision}; see {at}") from None
    except RepositoryNotFoundError:
        raise ModelNotFound(
            f"{name} is not there{_others(name)}; check its name, or set HF_TOKEN if it is private"
        ) from None
    except EntryNotFoundError:
        raise ModelNotFound(f"{name} has lost a file meanwhile; see {at}") from None
    except OfflineModeIsEnabled:
        raise _Unreachable("HF_HUB_OFFLINE is set") from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise DownloadError(
                f"{name} may not be fetched: set HF_TOKEN to a token that may read {at}"
            ) from None
        raise _Unreachable(f"{constants.ENDPOINT} answers {error.response.status_code}") from None
    except HTTPError as error:
        raise _Unreachable(f"{constants.ENDPOINT} is not reached ({error})") from None


def _others(name: HubName) -> str:
    """Return which models with GGUF files the owner has, as the end of a clause."""
    owner = name.repo.partition("/")[0]
    with suppress(HTTPError, OSError):
        found = HfApi().list_models(author=owner, filter="gguf", limit=LISTED)
        if names := [each.id.removeprefix(f"{owner}/") for each in found]:
            return f"; {owner} has {', '.join(names)}"
    return ""


def _model(name: HubName, files: list[str]) -> str:
    """Return the model that a name means among a repository's files. Raises ModelNotFound."""
    models = models_of(files)
    if name.file is not None:
        model = next((each for each in models if each.lower() == name.file.lower()), None)
    else:
        model = chosen(files, name.quant)
    if model is not None:
        return model
    if not models:
        raise ModelNotFound(
            f"{name} holds no GGUF file; look for a repository of the model whose name ends in GGUF"
        )
    shown = ", ".join(models[:LISTED]) + (" and more" if len(models) > LISTED else "")
    raise ModelNotFound(f"{name} has no {name.file or name.quant}; there is {shown}")


def _cached(name: HubName, error: _Unreachable) -> Path:
    """Return the GGUF of a model that the cache holds whole. Raises DownloadError."""
    folder = _repository(name.repo)
    revision = name.revision or MAIN
    with suppress(OSError):
        revision = (folder / "refs" / revision).read_text().strip()
    snapshot = folder / "snapshots" / revision
    held = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.[gG][gG][uU][fF]")]
    if held:
        model = _model(name, held)
        if all((snapshot / file).exists() for file in with_pieces(model)):
            return snapshot / model
    raise DownloadError(f"{name} is not in {folder.parent}, and {error}") from None


def _repository(repo: str) -> Path:
    """Return the folder of a repository in the cache."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def _is_cached(repo: str, file: str, commit: str | None) -> bool:
    return isinstance(try_to_load_from_cache(repo, file, revision=commit), str)


def _expect_room(name: HubName, size: int) -> None:
    """Raise DownloadError unless this many bytes, less what is there, fit on the cache's disk."""
    folder = _repository(name.repo)
    size -= sum(part.stat().st_size for part in (folder / "blobs").glob(f"*{PARTIAL}"))
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise DownloadError(
            f"{name} is not fetched: it takes {_scaled(size)} and {_scaled(free)} are free in "
            f"{existing}; make room, or set HF_HOME to a folder of another disk"
        )


def _fetch(name: HubName, file: str, revision: str, report: Report) -> None:
    """Fetch one blob into the cache; what was fetched before is gone on with."""
    url = hf_hub_url(name.repo, file, revision=revision)
    metadata = get_hf_file_metadata(url)
    if metadata.etag is None:
        raise DownloadError(f"{constants.ENDPOINT} says nothing of {file}; check HF_ENDPOINT")
    blob = _repository(name.repo) / "blobs" / metadata.etag
    partial = blob.with_name(blob.name + PARTIAL)
    lock = partial.with_name(partial.name + ".lock")
    with locked(lock):
        if not blob.exists():
            _complete(partial, url, metadata, file, report)
            content = SourceFile(partial).content
            if SHA256.fullmatch(metadata.etag) and content.sha256 != metadata.etag:
                partial.unlink()
                raise DownloadError(
                    f"{file} of {name} arrived damaged and is deleted; run the command again"
                )
            partial.rename(blob)
            placed = SourceFile(blob).state
            if placed.is_same_content(content.state):
                remember(Content(placed, content.sha256, content.checksums))
        lock.unlink(missing_ok=True)


def _complete(
    partial: Path,
    url: str,
    metadata: HfFileMetadata,
    file: str,
    report: Report,
) -> None:
    """Fetch the rest of a file."""
    # Where the file itself is, perhaps on another host, no token is needed.
    token = get_token() if metadata.location == url else None
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with _room(partial, file), partial.open("ab") as target:
        size = target.tell()
        if metadata.size is not None and size > metadata.size:
            target.truncate(0)
            size = 0
        report(f"Fetching {file} ({_scaled(metadata.size or 0)})")
        if size and size == metadata.size:
            return
        http_get(
            metadata.location,
            target,
            resume_size=size,
            headers=headers,
            expected_size=metadata.size,
            tqdm_class=_reporting(file, report),
        )


@contextmanager
def _room(partial: Path, file: str) -> Iterator[None]:
    """Turn what the file system refuses into a DownloadError."""
    try:
        yield
    except HTTPError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{file} is not fetched to {partial.parent}: {error}; what is there is kept"
        ) from None


def _reporting(file: str, report: Report) -> type[tqdm]:
    """Return a progress bar for huggingface_hub that reports every tenth of a file."""

    class Tenths(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})
            self._size, self._done = options.get("total") or 0, options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            before = self._done
            self._done += n or 0
            if self._size and 10 * before // self._size != 10 * self._done // self._size:
                report(f"Fetched {100 * self._done // self._size:.0f}% of {file}")

    return Tenths


def _scaled(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
