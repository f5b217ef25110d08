"""Models that Ollama, LM Studio or llama.cpp hold on this machine; used where they are."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipelines.model_files.names import chosen, models_of
from runtime.errors import ModelNotFound
from runtime.files import is_file, read_file
from runtime.gguf import model_stem
from runtime.settings import Settings

OLLAMA_HOST, OLLAMA_LIBRARY = "registry.ollama.ai", "library"
OLLAMA_MODEL = "application/vnd.ollama.image.model"
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model of another program. Immutable."""

    program: str
    name: str
    """NAME:TAG in Ollama; of the others the path below their folder."""
    path: Path
    published_name: str | None = None
    """What it is to be called where its file has no name of its own."""

    @property
    def label(self) -> str:
        """What names it on the command line."""
        return f"{self.program}:{self.name}"


def found_models(settings: Settings) -> list[FoundModel]:
    """Return the models of all programs; what cannot be read is left out."""
    return [
        *(each for folder in settings.ollama_folders for each in _of_ollama(folder)),
        *(each for folder in settings.lmstudio_folders for each in _in_folder("lmstudio", folder)),
        *_in_folder("llamacpp", settings.llama_folder),
    ]


def find(name: str, settings: Settings, program: str | None = None) -> FoundModel | None:
    """Return the model of this name, of one program or the first that has it.

    None if there is none. A name is that of the list, a file's with or without `.gguf`, or
    OWNER/REPO:QUANT as for the Hub. Upper and lower case are the same.
    """
    wanted = name.lower()
    among = [each for each in found_models(settings) if program in (None, each.program)]
    for model in among:
        names = {model.name, model.name.removesuffix(":latest")}
        if model.published_name is None:
            names |= {model.path.name, model_stem(model.path)}
        if wanted in map(str.lower, names):
            return model
    repo, _, quant = wanted.partition(":")
    held = {
        model.name: model
        for model in among
        if model.published_name is None and model.name.lower().startswith(f"{repo}/")
    }
    return held[best] if (best := chosen(held, quant or None)) is not None else None


def expect_found(name: str, settings: Settings, program: str) -> FoundModel:
    """Return a program's model of this name. Raises ModelNotFound, which lists what there is."""
    model = find(name, settings, program)
    if model is None:
        names = [each.name for each in found_models(settings) if each.program == program]
        there = f"there is {', '.join(names)}" if names else "it has none on this machine"
        raise ModelNotFound(f"{program} has no model {name}; {there}")
    return model


def _of_ollama(folder: Path) -> Iterator[FoundModel]:
    """Ollama's models: manifests/HOST/NAMESPACE/NAME/TAG name the blob with the GGUF."""
    manifests = folder / "manifests"
    for path in _files(manifests):
        parts = path.relative_to(manifests).parts
        if len(parts) < 3:
            continue
        *place, name, tag = parts
        if place[0] == OLLAMA_HOST:
            place = place[1:]
        if place == [OLLAMA_LIBRARY]:
            place = []
        blob = _blob(path)
        if blob is not None and is_file(folder / "blobs" / blob):
            label = "/".join([*place, f"{name}:{tag}"])
            published = f"{name}-{tag}" if tag != "latest" else name
            yield FoundModel("ollama", label, folder / "blobs" / blob, published)


def _blob(manifest: Path) -> str | None:
    """Return the name of the blob with the weights; None if the manifest names none."""
    try:
        read: Any = msgspec.json.decode(read_file(manifest, MAX_MANIFEST_BYTES))
        digests = [
            layer["digest"] for layer in read["layers"] if layer["mediaType"] == OLLAMA_MODEL
        ]
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None
    if len(digests) != 1 or not isinstance(digests[0], str):
        return None
    name = digests[0].replace(":", "-")
    return name if Path(name).name == name else None


def _in_folder(program: str, folder: Path) -> Iterator[FoundModel]:
    """The GGUF files below a folder; of a model in pieces the first."""
    paths = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name in models_of(paths):
        if name in paths:
            yield FoundModel(program, name, paths[name])


def _files(folder: Path) -> list[Path]:
    """Return all files below a folder, links to files included, by path."""
    found = [Path(at, name) for at, _, names in os.walk(folder) for name in names]
    return sorted(path for path in found if is_file(path))
