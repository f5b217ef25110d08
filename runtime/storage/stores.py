"""The storage as objects under keys: in a folder of this machine, or wherever fsspec reaches."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from runtime.errors import MissingPackage, SettingsError, StorageError
from runtime.files import locked, write_whole

LOCK = "lock"
TRANSFER_SECONDS = 600.0
"""Longest that one operation may take: a chunk at 56 KB/s."""


class ObjectMissing(Exception):
    """There is no object under a key."""


class Store(Protocol):
    """Objects under keys, which are paths with `/`. Safe for concurrent threads.

    All methods raise StorageError where the storage is not reached or refuses.
    """

    @property
    def url(self) -> str:
        """URL of the folder that all keys are below."""

    def read(self, key: str, most_bytes: int) -> bytes:
        """Return an object, cut after so many bytes. Raises ObjectMissing."""

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None if there is none."""

    def write(self, key: str, content: bytes) -> None:
        """Make or replace an object: a reader sees all of the new one or all of the old."""

    def create(self, key: str, content: bytes) -> bool:
        """`write` where there is no object; else False, with the object as it was."""


def open_store(url: str) -> Store:
    """Return the storage at a URL: file://, s3://, gs:// or another that fsspec knows.

    Raises SettingsError for any other, MissingPackage where what reaches it is not installed.
    """
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise SettingsError(f"{url} names no folder of this machine; write file:///FOLDER")
        return FolderStore(url, Path(unquote(parts.path)))
    return RemoteStore(url)


class FolderStore:
    """A folder of this machine, or one that several machines mount. Immutable."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    def read(self, key: str, most_bytes: int) -> bytes:
        """Return an object. Raises ObjectMissing."""
        with self._reached(key):
            try:
                opened = (self._folder / key).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                raise ObjectMissing(key) from None
            with opened:
                return opened.read(most_bytes)

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None if there is none."""
        with self._reached(key):
            with suppress(FileNotFoundError, NotADirectoryError):
                return (self._folder / key).stat().st_size
            return None

    def write(self, key: str, content: bytes) -> None:
        """Make or replace an object, which is on disk before it is visible."""
        with self._reached(key):
            write_whole(self._folder / key, content)

    def create(self, key: str, content: bytes) -> bool:
        """`write` where there is no object; else False."""
        path = self._folder / key
        with self._reached(key), locked(path.with_name(LOCK)):
            if path.exists():
                return False
            write_whole(path, content)
            return True

    @contextmanager
    def _reached(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.url}/{key} cannot be used: {error}") from None


class RemoteStore:
    """An object storage that fsspec has a package for, such as s3fs. Immutable.

    The package reads its own variables and files for credentials and endpoints.
    """

    def __init__(self, url: str) -> None:
        # Only whoever names such a storage pays for its packages.
        from fsspec.core import url_to_fs

        self.url = url
        options = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            files, self._root = url_to_fs(url, **options)
        except ImportError as error:
            raise MissingPackage(
                f"{url} needs a package that is not installed ({error}); install it with: "
                "pip install 'rocmforge[storage]'"
            ) from None
        except ValueError as error:
            raise SettingsError(f"{url} names no storage: {error}") from None
        self._files: Any = files
        # An answer that never comes, since a network has dropped it, has no limit of its own.
        self._limit = {"timeout": TRANSFER_SECONDS} if files.async_impl else {}

    def read(self, key: str, most_bytes: int) -> bytes:
        """Return an object, cut after so many bytes. Raises ObjectMissing."""
        with self._reached(key):
            try:
                return bytes(
                    self._files.cat_file(self._path(key), start=0, end=most_bytes, **self._limit)
                )
            except FileNotFoundError:
                raise ObjectMissing(key) from None

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None if there is none."""
        with self._reached(key):
            try:
                return int(self._files.info(self._path(key), **self._limit)["size"])
            except FileNotFoundError:
                return None

    def write(self, key: str, content: bytes) -> None:
        """Make or replace an object; object storages show it when it is whole."""
        with self._reached(key):
            self._files.pipe_file(self._path(key), content, **self._limit)

    def create(self, key: str, content: bytes) -> bool:
        """`write` where there is no object; else False."""
        with self._reached(key):
            try:
                self._files.pipe_file(self._path(key), content, mode="create", **self._limit)
            except FileExistsError:
                return False
            return True

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _reached(self, key: str) -> Iterator[None]:
        try:
            yield
        except ObjectMissing:
            raise
        except Exception as error:  # each package raises exceptions of its own
            reason = str(error) or type(error).__name__
            raise StorageError(
                f"{self.url}/{key} is not reached ({reason}); check the name, the network and the "
                "credentials"
            ) from error
