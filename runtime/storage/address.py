"""Names of models in a storage: `s3://BUCKET/FOLDER/NAME`, or `.../NAME@3` for one version."""

from dataclasses import dataclass

from runtime.errors import ModelNotFound
from runtime.registry import is_name, version_of

SEPARATOR = "://"


@dataclass(frozen=True, slots=True)
class Address:
    """A model in a storage. Immutable."""

    folder: str
    """URL of the folder with the models."""
    name: str
    version: int | None = None
    """None means the newest, whichever that is."""

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" + (f"@{self.version}" if self.version else "")

    @classmethod
    def of(cls, text: str) -> "Address":
        """Return what a text names. Raises ModelNotFound for anything else."""
        folder, _, last = text.rstrip("/").rpartition("/")
        name, separator, version = last.partition("@")
        number = version_of(version)
        is_there = bool(folder.partition(SEPARATOR)[2])
        if not is_there or not is_name(name) or (separator and not number):
            raise ModelNotFound(
                f"{text} names no model in a storage; write s3://BUCKET/FOLDER/NAME, or "
                "s3://BUCKET/FOLDER/NAME@VERSION"
            )
        return cls(folder, name, number or None)


def is_address(text: str) -> bool:
    """Whether a text is a URL and thus no path and no published name."""
    return SEPARATOR in text
