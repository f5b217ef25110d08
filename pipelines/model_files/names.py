"""How a model is named where it is no path: `hf:OWNER/REPO:QUANT`, `ollama:NAME:TAG`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime.errors import ModelNotFound
from runtime.gguf import PieceName, models_among

HUB = "hf"
PROGRAMS = ("ollama", "lmstudio", "llamacpp")
DEFAULT_QUANTS = ("Q4_K_M", "Q8_0")
"""What llama.cpp's -hf takes too, in this order; without them, the first file."""
PART = r"[\w.-]+"
HUB_NAME = re.compile(
    rf"{HUB}:(?P<repo>{PART}/{PART})(?:@(?P<revision>[^:/@]+))?"
    rf"(?:/(?P<file>.+\.gguf)|:(?P<quant>{PART}))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A model of the Hub. Immutable."""

    repo: str
    """OWNER/REPO."""
    revision: str | None = None
    """A branch, a tag or a commit; None is main."""
    quant: str | None = None
    file: str | None = None
    """Path of a GGUF in the repository, if one is named."""

    def __str__(self) -> str:
        return f"{HUB}:{self.repo}"


def scheme_of(text: str) -> str | None:
    """Return what stands before the colon of a model's name: hf, ollama, ...; None for others."""
    scheme = text.partition(":")[0].lower()
    return scheme if scheme in (HUB, *PROGRAMS) else None


def hub_name(text: str) -> HubName:
    """Return what `hf:OWNER/REPO...` names. Raises ModelNotFound for anything else."""
    found = HUB_NAME.fullmatch(text)
    if found is None:
        raise ModelNotFound(
            f"{text} names no model of the Hub; write hf:OWNER/REPO, hf:OWNER/REPO:QUANT or "
            "hf:OWNER/REPO/FILE.gguf, with @REVISION behind REPO if it is not main"
        )
    return HubName(found["repo"], found["revision"], found["quant"], found["file"])


def models_of(files: Iterable[str]) -> list[str]:
    """Return the models among paths of a repository: each GGUF, or the first of its pieces."""
    return [str(PurePosixPath(path)) for path in models_among(map(Path, files))]


def chosen(files: Iterable[str], quant: str | None) -> str | None:
    """Return the model among paths that has this quantization; None if there is none.

    As llama.cpp chooses: upper and lower case are the same, and without a quant it is Q4_K_M, else
    Q8_0, else the first. Of several the shortest path is taken: Q4_K_M before UD-Q4_K_M.
    """
    models = models_of(files)
    for wanted in DEFAULT_QUANTS if quant is None else (quant,):
        pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(wanted)}(?=[./-])", re.IGNORECASE)
        if fitting := [path for path in models if pattern.search(path)]:
            return min(fitting, key=lambda path: (len(path), path))
    return models[0] if models and quant is None else None


def with_pieces(model: str) -> list[str]:
    """Return the paths of all files of a model in a repository, of which this is the first."""
    path = PurePosixPath(model)
    name = PieceName.of(Path(path.name))
    return [model] if name is None else [str(path.with_name(each)) for each in name.names()]
