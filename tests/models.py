"""Writes tiny GGUF models with random weights: whole models that a test makes in milliseconds.

A test says only what it is about (`write_tiny_llama(tmp_path / "m.gguf", tied=False)`); every
other number stays at a default with which all block formats of 32 weights fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, TokenType

from tests.block_formats import weights as weights_of

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says of its tokenizer; `tokens[i]` is the stored text of token i."""

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[TokenType]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    bos: int = 0
    eos: int | Sequence[int] = 0
    ends: Sequence[int] = ()
    """Further ends of a generation, as Ollama's files list them."""
    unknown: int | None = None
    add_bos: bool | int | None = None
    """A number in some files."""
    add_eos: bool | None = None
    add_space_prefix: bool | None = None
    chat_template: str | Sequence[str] | None = None

    def write(self, writer: GGUFWriter) -> None:
        """Add the tokenizer keys to a GGUF that is being written."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        if self.merges:
            writer.add_token_merges(list(self.merges))
        if self.scores:
            writer.add_token_scores(list(self.scores))
        writer.add_bos_token_id(self.bos)
        if isinstance(self.eos, int):
            writer.add_eos_token_id(self.eos)
        else:
            writer.add_array("tokenizer.ggml.eos_token_id", list(self.eos))
        if self.ends:
            writer.add_array("tokenizer.ggml.eos_token_ids", list(self.ends))
        if self.unknown is not None:
            writer.add_unk_token_id(self.unknown)
        if isinstance(self.add_bos, bool):
            writer.add_add_bos_token(self.add_bos)
        elif self.add_bos is not None:
            writer.add_uint32("tokenizer.ggml.add_bos_token", self.add_bos)
        if self.add_eos is not None:
            writer.add_add_eos_token(self.add_eos)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        if isinstance(self.chat_template, str):
            writer.add_chat_template(self.chat_template)
        elif self.chat_template is not None:
            writer.add_array("tokenizer.chat_template", list(self.chat_template))


def byte_characters() -> list[str]:
    """The printable character that GPT-2's byte-level BPE writes for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    return [chr(byte if byte in printable else next(shifted)) for byte in range(256)]


def byte_level_vocabulary(
    pre: str = "smollm", words: Sequence[str] = ("Ġthe", "hello", "Ġworld", "Ġand", "ing", "ĠĠĠĠ")
) -> Vocabulary:
    """3 control tokens, the 256 bytes, and a merge for each longer and longer start of a word."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = control + byte_characters()
    merges: list[str] = []
    for word in words:
        for length in range(2, len(word) + 1):
            if word[:length] not in tokens:
                merges.append(f"{word[: length - 1]} {word[length - 1]}")
                tokens.append(word[:length])
    types = [TokenType.CONTROL] * len(control)
    types += [TokenType.NORMAL] * (len(tokens) - len(control))
    return Vocabulary(
        model="gpt2",
        pre=pre,
        tokens=tokens,
        types=types,
        merges=merges,
        bos=1,
        eos=2,
        unknown=0,
        add_bos=False,
        chat_template=CHAT_TEMPLATE,
    )


def sentencepiece_vocabulary(
    words: Sequence[str] = ("▁the", "▁hello", "▁world", "▁and", "ing"),
    *,
    add_space_prefix: bool = True,
) -> Vocabulary:
    """<unk>, <s>, </s>, the 256 byte tokens, then letters and starts of words with scores."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    pieces = [word[:length] for word in words for length in range(2, len(word) + 1)]
    pieces = list(dict.fromkeys(pieces)) + list("▁abcdefghijklmnopqrstuvwxyzé漢")
    scores = [0.0] * len(tokens) + [-float(rank) for rank in range(len(pieces))]
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens + pieces,
        types=types + [TokenType.NORMAL] * len(pieces),
        scores=scores,
        bos=1,
        eos=2,
        unknown=0,
        add_space_prefix=add_space_prefix,
    )


def write_tiny_llama(
    path: Path,
    *,
    format: str = "Q4_1",
    embedding_format: str | None = None,
    seed: int = 0,
    architecture: str = "llama",
    layers: int = 2,
    embedding: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    feed_forward: int = 96,
    context: int = 256,
    vocabulary: Vocabulary | None = None,
    tied: bool = True,
    rope_freqs: bool = False,
    biases: bool = False,
    rope_base: float = 10000.0,
    rope_scaling: float | None = None,
    metadata: Mapping[str, str | int | float | bool] | None = None,
    extra_tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a llama model with random weights and return its path.

    `format` is that of every matrix, `embedding_format` (by default the same) that of
    `token_embd`; norms, biases and rope frequencies are F32. `rope_scaling` is a linear factor.
    `metadata` and `extra_tensors` (float32) are added as they are: for what must be refused.
    """
    random = np.random.default_rng(seed)
    vocabulary = byte_level_vocabulary() if vocabulary is None else vocabulary
    head_dim = embedding // heads if head_dim is None else head_dim
    writer = GGUFWriter(path, architecture)
    writer.add_name(path.stem)
    writer.add_context_length(context)
    writer.add_embedding_length(embedding)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    if head_dim * heads != embedding:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope_base)
    if rope_scaling is not None:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope_scaling)
    writer.add_vocab_size(len(vocabulary.tokens))
    vocabulary.write(writer)
    for key, value in (metadata or {}).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_string(key, value)

    def add_matrix(name: str, rows: int, columns: int, gain: float, kind: str = format) -> None:
        blocks = weights_of(random, kind, rows, columns, gain / columns**0.5)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=GGMLQuantizationType[kind])

    def add_vector(name: str, length: int, mean: float, spread: float) -> None:
        drawn = random.standard_normal(length, np.float32)
        writer.add_tensor(name, (mean + spread * drawn).astype(np.float32))

    tokens = len(vocabulary.tokens)
    add_matrix("token_embd", tokens, embedding, 4.0, embedding_format or format)
    for layer in range(layers):
        block = f"blk.{layer}"
        add_vector(f"{block}.attn_norm.weight", embedding, 1.0, 0.1)
        for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            add_matrix(f"{block}.attn_{name}", count * head_dim, embedding, 1.5)
            if biases:
                add_vector(f"{block}.attn_{name}.bias", count * head_dim, 0.0, 0.5)
        add_matrix(f"{block}.attn_output", embedding, heads * head_dim, 1.5)
        add_vector(f"{block}.ffn_norm.weight", embedding, 1.0, 0.1)
        add_matrix(f"{block}.ffn_gate", feed_forward, embedding, 1.5)
        add_matrix(f"{block}.ffn_up", feed_forward, embedding, 1.5)
        add_matrix(f"{block}.ffn_down", embedding, feed_forward, 1.5)
    add_vector("output_norm.weight", embedding, 1.0, 0.1)
    if not tied:
        add_matrix("output", tokens, embedding, 4.0)
    if rope_freqs:
        factors = np.linspace(1.0, 8.0, head_dim // 2, dtype=np.float32)
        writer.add_tensor("rope_freqs.weight", factors)
    for name, weights in (extra_tensors or {}).items():
        writer.add_tensor(name, np.asarray(weights, np.float32))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
