"""Models in several files: which files belong together, and whether they fit.

llama.cpp's gguf-split names them NAME-00001-of-00003.gguf; the keys `split.no` (from 0),
`split.count` and `split.tensors.count` (of the whole model) say the same inside each. The first
holds the metadata.
"""

import mmap
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.errors import GGUFError, TruncatedGGUF
from runtime.files import is_file
from runtime.gguf.header import Header
from runtime.gguf.values import TensorInfo

PIECE = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE)
NO_MODELS = re.compile(r"(?i:mmproj|imatrix)|(?:^|-)(?:mtp|eagle3|dflash|dspark)-")
"""In the names of files next to models that are no models: projectors, drafting heads."""
AGAIN = "get all pieces again, from one place"


@dataclass(frozen=True, slots=True)
class PieceName:
    """The parts of a piece's name. Immutable."""

    stem: str
    """The model's name: what all its pieces share."""
    number: int
    """From 1."""
    count: int
    suffix: str

    @classmethod
    def of(cls, path: Path) -> "PieceName | None":
        """Return what the name says; None for the name of a whole model."""
        if (found := PIECE.fullmatch(path.name)) is None:
            return None
        stem, number, count, suffix = found.groups()
        name = cls(stem, int(number), int(count), suffix)
        return name if name.count > 1 and 1 <= name.number <= name.count else None

    def names(self) -> list[str]:
        """Return the names of all pieces in order."""
        numbers = range(1, self.count + 1)
        return [f"{self.stem}-{each:05}-of-{self.count:05}{self.suffix}" for each in numbers]


def model_stem(path: Path) -> str:
    """Return a file's name without `.gguf`, and without the number of a piece."""
    name = PieceName.of(path)
    return path.stem if name is None else name.stem


def pieces_of(path: Path) -> tuple[Path, ...]:
    """Return the files of a model, of which this is the only or the first one.

    A link may have any name, if the name of its target says which piece it is. Raises GGUFError for
    another piece than the first, TruncatedGGUF where one is missing.
    """
    if (name := PieceName.of(path)) is None:
        path, given = path.resolve(), path
        if (name := PieceName.of(path)) is None:
            return (given,)
    pieces = tuple(path.with_name(each) for each in name.names())
    if missing := [each.name for each in pieces if not is_file(each)]:
        if name.number == 1 and _is_whole(path):
            return (path,)
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TruncatedGGUF(
            f"{path.parent}: {missing[0]}{more} of the {name.count} pieces of {name.stem} "
            f"{'are' if more else 'is'} missing; put all pieces into this folder"
        )
    if name.number > 1:
        raise GGUFError(f"{path} is piece {name.number} of {name.count}; name {pieces[0]}")
    return pieces


def _is_whole(path: Path) -> bool:
    """Return whether a file is by its header a whole model, such as one that was merged."""
    try:
        with path.open("rb") as file:
            header = Header.read(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError, GGUFError):
        return False
    return (header.integer("split.count") or 1) == 1


def gguf_at(path: Path) -> Path | None:
    """Return the GGUF that a path names: the file, or the only model of a folder.

    Of a model in pieces it is the first one, which may be missing. None if there is none. Raises
    GGUFError for a folder with several models.
    """
    if is_file(path):
        return path
    try:
        found = models_among(path.iterdir())
    except (OSError, ValueError):  # no folder, or text that cannot be a path
        return None
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise GGUFError(f"{path} holds several models; name one of {names}")
    return found[0] if found else None


def models_among(files: Iterable[Path]) -> list[Path]:
    """Return the models among files, by name: each GGUF, or its first piece, there or not."""
    found = set()
    for path in files:
        if path.suffix.lower() != ".gguf" or path.name.startswith("."):
            continue
        if NO_MODELS.search(path.name) is None:
            name = PieceName.of(path)
            found.add(path if name is None else path.with_name(name.names()[0]))
    return sorted(found)


def joined(pieces: Sequence[tuple[Path, Header]]) -> dict[str, TensorInfo]:
    """Return the tensors of all pieces by name. Raises GGUFError for pieces that do not fit."""
    tensors: dict[str, TensorInfo] = {}
    first, start = pieces[0]
    total = start.integer("split.tensors.count")
    for index, (path, header) in enumerate(pieces):
        number, count = header.integer("split.no") or 0, header.integer("split.count") or 1
        if count != len(pieces):
            _refuse_count(path, number, count, len(pieces))
        if number != index and count > 1:
            raise GGUFError(
                f"{path} holds piece {number + 1} of {count}, and its name says {index + 1}; "
                "give the pieces their right names, or get them again"
            )
        if count > 1 and header.integer("split.tensors.count") != total:
            raise GGUFError(f"{path} is a piece of another model than {first.name}; {AGAIN}")
        for name, info in header.tensors.items():
            if (known := tensors.get(name)) is not None:
                raise GGUFError(
                    f"{path} holds tensor {name!r}, and so does {pieces[known.piece][0].name}: "
                    f"they are pieces of different models; {AGAIN}"
                )
            tensors[name] = replace(info, piece=index)
    if len(pieces) > 1 and total is not None and len(tensors) != total:
        raise GGUFError(
            f"{first} and its other pieces hold {len(tensors)} tensors instead of {total}; {AGAIN}"
        )
    return tensors


def _refuse_count(path: Path, number: int, count: int, named: int) -> None:
    """Raise GGUFError for a piece of another number of pieces than the names say."""
    if named > 1:
        raise GGUFError(f"{path} is one of {count} pieces, and of {named} by its name; {AGAIN}")
    raise GGUFError(
        f"{path} is piece {number + 1} of {count}; call it NAME-{number + 1:05}-of-{count:05}.gguf "
        "beside the other pieces, and name the first"
    )
