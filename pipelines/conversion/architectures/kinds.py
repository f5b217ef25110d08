"""GGUF files that are not models, such as projectors: what they are, and what to do."""

from runtime.errors import UnsupportedModel
from runtime.gguf import GGUFFile

ADVICE = {
    "mmproj": (
        "is the projector of a model that sees or hears (mmproj)",
        "prepare the model it came with; its text part runs without the projector",
    ),
    "adapter": (
        "is an adapter (LoRA), not a model",
        "merge it into its model with llama-export-lora and prepare the result",
    ),
    "imatrix": (
        "is an importance matrix, which a quantizer reads",
        "prepare the model that was quantized with it",
    ),
    "vocabulary": (
        "holds a vocabulary without any weights",
        "get the file with the model's weights",
    ),
    "controlvector": (
        "is a control vector, not a model",
        "prepare the model it was made for; control vectors cannot be applied",
    ),
}


def expect_model(file: GGUFFile) -> None:
    """Raise UnsupportedModel for a GGUF that is no model, saying what it is and what to do."""
    kind = _kind(file)
    if kind is not None:
        what, advice = ADVICE[kind]
        raise UnsupportedModel(f"{file.path} {what}; {advice}")


def _kind(file: GGUFFile) -> str | None:
    """Return which key of ADVICE a file is; None for a model."""
    stated = {file.metadata.get("general.type"), file.metadata.get("general.architecture")}
    if stated & {"mmproj", "clip"}:
        return "mmproj"
    for kind in ("adapter", "imatrix", "controlvector"):
        if kind in stated:
            return kind
    return None if file.tensors else "vocabulary"
