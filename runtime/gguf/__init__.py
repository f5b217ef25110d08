"""Reads GGUF files through a memory map, without copying tensors."""

from runtime.gguf.file import GGUFFile, open_gguf
from runtime.gguf.values import StringArray, TensorInfo, Unread, Value

__all__ = ["GGUFFile", "StringArray", "TensorInfo", "Unread", "Value", "open_gguf"]
