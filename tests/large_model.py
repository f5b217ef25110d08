"""Writes a GGUF of a large model's shape with random weights, tensor by tensor.

    python -m tests.large_model model.gguf --shape qwen2-7b --layers 4

For measurements of preparing and serving: 28 layers of qwen2-7b take 4.7 GB, 4 take 1.3 GB.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType

from runtime.ops.reference import row_bytes
from tests.block_formats import weights as weights_of
from tests.models import byte_level_vocabulary

WEIGHTS_AT_ONCE = 1 << 22
GAIN = 0.7
"""Of matrices: through many layers a large one makes much of any rounding."""
EMBEDDING_GAIN = 4.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A dense model in the mix of formats that llama.cpp calls Q4_K_M."""

    architecture: str
    layers: int
    embedding: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    rope_base: float
    biases: bool = False


SHAPES = {
    "qwen2-7b": Shape(
        architecture="qwen2",
        layers=28,
        embedding=3584,
        heads=28,
        kv_heads=4,
        feed_forward=18944,
        vocabulary=152064,
        rope_base=1e6,
        biases=True,
    ),
    "llama3-8b": Shape(
        architecture="llama",
        layers=32,
        embedding=4096,
        heads=32,
        kv_heads=8,
        feed_forward=14336,
        vocabulary=128256,
        rope_base=5e5,
    ),
}


class Tensor(NamedTuple):
    """A matrix [rows, columns] of a format, or with one row and F32 a vector."""

    name: str
    format: str
    rows: int
    columns: int


def tensors(shape: Shape) -> Iterator[Tensor]:
    """The tensors of a shape in the order of the file."""
    width, inner = shape.embedding, shape.feed_forward
    kv_rows = shape.kv_heads * (width // shape.heads)
    yield Tensor("output.weight", "Q6_K", shape.vocabulary, width)
    yield Tensor("token_embd.weight", "Q4_K", shape.vocabulary, width)
    yield Tensor("output_norm.weight", "F32", 1, width)
    for layer in range(shape.layers):
        eighth = shape.layers // 8
        is_better = layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2
        better = "Q6_K" if is_better else "Q4_K"
        for name, format, rows, columns in (
            ("attn_norm", "F32", 1, width),
            ("attn_q", "Q4_K", width, width),
            ("attn_k", "Q4_K", kv_rows, width),
            ("attn_v", better, kv_rows, width),
            ("attn_output", "Q4_K", width, width),
            ("ffn_norm", "F32", 1, width),
            ("ffn_gate", "Q4_K", inner, width),
            ("ffn_up", "Q4_K", inner, width),
            ("ffn_down", better, width, inner),
        ):
            yield Tensor(f"blk.{layer}.{name}.weight", format, rows, columns)
            if shape.biases and name in ("attn_q", "attn_k", "attn_v"):
                yield Tensor(f"blk.{layer}.{name}.bias", "F32", 1, rows)


def write_large_model(path: Path, shape: Shape, seed: int = 0) -> Path:
    """Write a model of random weights; in memory is one part of a tensor at a time."""
    random = np.random.default_rng(seed)
    writer = GGUFWriter(path, shape.architecture)
    writer.add_name(path.stem)
    writer.add_context_length(32768)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    _write_vocabulary(writer, shape.vocabulary)
    for each in tensors(shape):
        stored = (each.rows, row_bytes(each.format, each.columns))
        if each.format == "F32":
            writer.add_tensor_info(each.name, (each.columns,), np.dtype(np.float32), stored[1])
        else:
            kind = GGMLQuantizationType[each.format]
            size = stored[0] * stored[1]
            writer.add_tensor_info(each.name, stored, np.dtype(np.uint8), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    file = writer.fout[0]
    for each in tensors(shape):
        writer.write_padding(file, file.tell())
        for content in _content(random, each):
            file.write(content.data)
        writer.write_padding(file, file.tell())
    writer.close()
    return path


def _content(random: np.random.Generator, tensor: Tensor) -> Iterator[np.ndarray]:
    """The bytes of a tensor in parts of whole rows."""
    if tensor.format == "F32":
        mean = 0.0 if tensor.name.endswith("bias") else 1.0
        values = mean + 0.1 * random.standard_normal(tensor.columns, np.float32)
        yield values.astype(np.float32).view(np.uint8)
        return
    is_outer = tensor.name.startswith(("output", "token_embd"))
    deviation = (EMBEDDING_GAIN if is_outer else GAIN) / tensor.columns**0.5
    some = max(1, WEIGHTS_AT_ONCE // tensor.columns)
    for start in range(0, tensor.rows, some):
        rows = min(some, tensor.rows - start)
        yield weights_of(random, tensor.format, rows, tensor.columns, deviation)


def _write_vocabulary(writer: GGUFWriter, size: int) -> None:
    """Bytes and a few words, filled up with tokens that no text has."""
    vocabulary = byte_level_vocabulary("qwen2")
    unused = [f"<unused {number}>" for number in range(size - len(vocabulary.tokens))]
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list([*vocabulary.tokens, *unused])
    writer.add_token_types([*vocabulary.types, *[TokenType.UNUSED] * len(unused)])
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2-7b")
    parser.add_argument("--layers", type=int, help="by default as many as the shape has")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    if options.layers is not None:
        shape = Shape(**{**vars(shape), "layers": options.layers})
    print(write_large_model(options.path, shape))


if __name__ == "__main__":
    main()
