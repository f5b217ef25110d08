"""An open model of one GGUF file or several: metadata, tensors, and their data as views."""

import mmap
import os
import stat
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from runtime.errors import GGUFError, TruncatedGGUF, UnsupportedModel
from runtime.files import open_at_once
from runtime.gguf.header import Header
from runtime.gguf.pieces import joined, pieces_of
from runtime.gguf.values import TensorInfo, Value

LONG_STRING = 256


class GGUFFile:
    """An open model; immutable, so any thread may read it. The maps live as long as a view."""

    path: Path
    """The file, or the first of the model's pieces."""
    paths: tuple[Path, ...]
    """All its files, one unless it comes in pieces."""
    version: int
    alignment: int
    """Bytes, in the first file."""
    size: int
    """Bytes of all files."""
    metadata: Mapping[str, Value]
    """Numbers, booleans and strings as Python values; arrays as NumPy views or `StringArray`; what
    is none of these as `Unread`."""
    tensors: Mapping[str, TensorInfo]

    def __init__(self, pieces: Sequence[tuple[Path, mmap.mmap]]) -> None:
        """Parse the mapped files of a model in their order; use `GGUFFile.open` for a path."""
        self.paths = tuple(path for path, _ in pieces)
        self.path = self.paths[0]
        self.size = sum(len(mapping) for _, mapping in pieces)
        self._bytes = tuple(np.frombuffer(mapping, np.uint8) for _, mapping in pieces)
        headers = [Header.read(path, mapping) for path, mapping in pieces]
        self.version, self.alignment = headers[0].version, headers[0].alignment
        self.metadata = headers[0].metadata
        self.tensors = MappingProxyType(joined(list(zip(self.paths, headers, strict=True))))

    @classmethod
    def open(cls, path: Path | str, *more: Path) -> "GGUFFile":
        """Map and parse a model's file, and its other pieces: those given, else found by name.

        Raises GGUFError, naming the file and the field, for anything but a complete and consistent
        model; sizes that a file claims are checked before memory is allocated.
        """
        paths = (Path(path), *more) if more else pieces_of(Path(path))
        pieces = []
        for each in paths:
            with open_gguf(each) as file:
                pieces.append((each, mapped(each, file)))
        return cls(pieces)

    @property
    def architecture(self) -> str:
        """`general.architecture`. Raises GGUFError if the file has none."""
        architecture = self.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise GGUFError(f"{self.path}: general.architecture is missing; convert the model anew")
        return architecture

    def scalars(self) -> dict[str, bool | int | float | str]:
        """Return the metadata without arrays and strings of more than 256 characters."""
        return {
            key: value
            for key, value in self.metadata.items()
            if isinstance(value, bool | int | float)
            or (isinstance(value, str) and len(value) <= LONG_STRING)
        }

    def data(self, name: str) -> npt.NDArray[np.uint8]:
        """Return a tensor's stored bytes: read-only uint8 view [rows, row_bytes], not a copy."""
        info = self._tensor(name)
        stored = self._bytes[info.piece][info.offset : info.offset + info.size]
        return stored.reshape(info.rows, info.row_bytes)

    def dequantize(self, name: str) -> npt.NDArray[np.float32]:
        """Return a tensor's weights as float32, by the definitions of the gguf package.

        Raises UnsupportedModel for a format without a definition.
        """
        from runtime.gguf.dequantize import dequantize  # a server needs no gguf package

        info = self._tensor(name)
        try:
            weights = dequantize(self.data(name), info.format)
        except NotImplementedError:
            raise UnsupportedModel(
                f"{self.path}: tensor {name!r} is {info.format}, which cannot be dequantized; "
                "choose a file in another format"
            ) from None
        return np.asarray(weights, np.float32).reshape(info.shape)

    def _tensor(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise GGUFError(f"{self.path}: tensor {name!r} is missing") from None


def mapped(path: Path, file: BufferedReader) -> mmap.mmap:
    """Map an open file, which may be closed afterwards. Raises GGUFError."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        raise TruncatedGGUF(f"{path} is empty; get the file again") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def open_gguf(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises GGUFError."""
    try:
        file = open(path, "rb", opener=open_at_once)  # noqa: SIM115 the caller closes it
    except FileNotFoundError:
        raise GGUFError(f"{path} does not exist; check the path of the GGUF file") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise GGUFError(f"{path} is not a file; name a GGUF file")
    return file


def _unreadable(path: Path, error: OSError) -> GGUFError:
    return GGUFError(f"{path} cannot be read as a GGUF file ({error})")
