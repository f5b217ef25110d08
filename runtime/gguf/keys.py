"""The metadata keys that other modules read, and the required type of each."""

from collections.abc import Mapping

import numpy as np

from runtime.gguf.values import StringArray, Value

# Read by other modules; a key below `{arch}.` is checked for the file's own architecture.
KNOWN_KEYS: dict[str, str] = {
    "general.architecture": "text",
    "general.alignment": "integer",
    "split.no": "integer",
    "split.count": "integer",
    "split.tensors.count": "integer",
    "tokenizer.ggml.model": "text",
    "tokenizer.ggml.pre": "text",
    "tokenizer.ggml.tokens": "array of text",
    "tokenizer.ggml.merges": "array of text",
    "tokenizer.ggml.scores": "array of numbers",
    "tokenizer.ggml.token_type": "array of integers",
    "tokenizer.ggml.bos_token_id": "integer",
    "tokenizer.ggml.eos_token_id": "integer or array of integers",
    "tokenizer.ggml.eot_token_id": "integer",
    "tokenizer.ggml.eom_token_id": "integer",
    "tokenizer.ggml.unknown_token_id": "integer",
    "tokenizer.ggml.padding_token_id": "integer",
    "tokenizer.ggml.add_bos_token": "flag or integer",
    "tokenizer.ggml.add_eos_token": "flag or integer",
    "tokenizer.ggml.add_space_prefix": "flag or integer",
    "tokenizer.ggml.remove_extra_whitespaces": "flag or integer",
    "tokenizer.chat_template": "text or array of text",
    "{arch}.context_length": "integer",
    "{arch}.embedding_length": "integer",
    "{arch}.block_count": "integer",
    "{arch}.vocab_size": "integer",
    "{arch}.feed_forward_length": "integer or array of integers",
    "{arch}.attention.head_count": "integer or array of integers",
    "{arch}.attention.head_count_kv": "integer or array of integers",
    "{arch}.attention.key_length": "integer",
    "{arch}.attention.value_length": "integer",
    "{arch}.attention.layer_norm_rms_epsilon": "number",
    "{arch}.attention.layer_norm_epsilon": "number",
    "{arch}.rope.dimension_count": "integer",
    "{arch}.rope.freq_base": "number",
    "{arch}.rope.scaling.type": "text",
    "{arch}.rope.scaling.factor": "number",
    "{arch}.rope.scaling.original_context_length": "integer",
    "{arch}.expert_count": "integer",
    "{arch}.expert_used_count": "integer",
}


def mistyped_key(metadata: Mapping[str, Value]) -> tuple[str, str] | None:
    """Return a known key with a wrong type, and the required type; None if all are right."""
    architecture = metadata.get("general.architecture", "")
    for pattern, kind in KNOWN_KEYS.items():
        key = pattern.replace("{arch}", str(architecture))
        if key in metadata and not _is(kind, metadata[key]):
            return key, kind
    return None


def _is(kind: str, value: Value) -> bool:
    array_kind = value.dtype.kind if isinstance(value, np.ndarray) else ""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return {
        "text": isinstance(value, str),
        "flag or integer": isinstance(value, int),
        "integer": is_integer,
        "number": is_integer or isinstance(value, float),
        "array of text": isinstance(value, StringArray),
        "text or array of text": isinstance(value, str | StringArray),
        "array of integers": array_kind in ("i", "u"),
        "array of numbers": array_kind in ("i", "u", "f"),
        "integer or array of integers": is_integer or array_kind in ("i", "u"),
    }[kind]
