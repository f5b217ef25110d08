"""Reads GGUF files through a memory map, without copying tensors."""

from runtime.gguf.file import GGUFFile, mapped, open_gguf
from runtime.gguf.pieces import PieceName, gguf_at, model_stem, models_among, pieces_of
from runtime.gguf.values import StringArray, TensorInfo, Unread, Value

__all__ = [
    "GGUFFile",
    "PieceName",
    "StringArray",
    "TensorInfo",
    "Unread",
    "Value",
    "gguf_at",
    "mapped",
    "model_stem",
    "models_among",
    "open_gguf",
    "pieces_of",
]
