"""Splits a GGUF into pieces, as llama.cpp's gguf-split does."""

from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def split(
    path: Path, count: int, *, folder: Path | None = None, first_is_empty: bool = False
) -> list[Path]:
    """Write a model's pieces beside it, or into a folder, and return their paths.

    The metadata is in the first, and the tensors are divided evenly in their order, over all pieces
    or all but the first.
    """
    reader = GGUFReader(path)
    architecture = str(reader.fields["general.architecture"].contents())
    size = -(-len(reader.tensors) // (count - first_is_empty))
    written = []
    for number in range(count):
        name = f"{path.stem}-{number + 1:05}-of-{count:05}.gguf"
        piece = (folder or path.parent) / name
        writer = GGUFWriter(piece, architecture)
        if number == 0:
            for field in reader.fields.values():
                if not field.name.startswith(("GGUF.", "general.architecture")):
                    _copy(writer, field)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        at = (number - first_is_empty) * size
        for tensor in reader.tensors[max(at, 0) : max(at + size, 0)]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        written.append(piece)
    return written


def _copy(writer: GGUFWriter, field: Any) -> None:
    kind, *of = field.types
    value = field.contents()
    if kind == GGUFValueType.ARRAY:
        writer.add_key_value(field.name, value, kind, sub_type=of[0])
    else:
        writer.add_key_value(field.name, value, kind)
