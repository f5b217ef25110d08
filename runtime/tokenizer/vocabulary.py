"""What a GGUF says of its tokenizer, checked and completed by the defaults of llama.cpp."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from gguf.constants import TokenType

from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile, StringArray
from runtime.tokenizer import special
from runtime.tokenizer.splits import SPLIT_RULES, SplitRule

BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
SPACE = "▁"
"""How SentencePiece writes a space inside a token."""
FORMAT_VERSION = b"1"
"""Part of every digest: a new way to read a vocabulary must not meet an old cache file."""


@dataclass(frozen=True)
class Vocabulary:
    """Immutable. `tokens[i]` is the stored text of token i, `types[i]` its gguf.TokenType."""

    model: str
    tokens: tuple[str, ...]
    types: npt.NDArray[np.int32]
    split: SplitRule
    bos: int | None
    eos: int | None
    unknown: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    strips_right: frozenset[int]
    """Special tokens after which white space is dropped."""
    end_of_generation: frozenset[int]
    chat_template: str | None

    def of_type(self, *types: TokenType) -> Iterator[int]:
        """Ids of the tokens of these types, ascending."""
        return iter(np.flatnonzero(np.isin(self.types, types)).tolist())

    def is_of_type(self, token: int, *types: TokenType) -> bool:
        """Whether the token, an id inside the vocabulary, is of one of these types."""
        return int(self.types[token]) in types

    def ids(self, *types: TokenType) -> dict[str, int]:
        """Text to id of the tokens of these types; of equal texts the last counts."""
        found = list(self.of_type(*types))
        return dict(zip(map(self.tokens.__getitem__, found), found, strict=True))


def read_vocabulary(file: GGUFFile) -> Vocabulary:
    """The vocabulary of a GGUF.

    Raises UnsupportedModel for a tokenizer or a split that this build does not know, GGUFError for
    arrays that do not fit together.
    """
    get = file.metadata.get
    model = str(get("tokenizer.ggml.model", ""))
    if model not in (BYTE_LEVEL, SENTENCEPIECE):
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.model {model!r} is not supported; "
            f"use a model whose tokenizer is {BYTE_LEVEL!r} or {SENTENCEPIECE!r}"
        )
    sentencepiece = model == SENTENCEPIECE
    split = SplitRule((), add_bos=True) if sentencepiece else _split_rule(file)
    stored = get("tokenizer.ggml.tokens")
    if not isinstance(stored, StringArray) or len(stored) == 0:
        raise GGUFError(f"{file.path}: tokenizer.ggml.tokens is missing; convert the model anew")
    tokens = tuple(stored)
    if "" in tokens:  # an empty text would match everywhere
        tokens = tuple(text or f"[EMPTY_{token}]" for token, text in enumerate(tokens))
    named = {
        text: token
        for token, text in enumerate(tokens)
        if text in special.CONTROL or text in special.SHOWN
    }
    keyed = {_token_id(file, key, len(tokens)) for key in special.ID_KEYS} - {None}
    ends = special.ends_of_generation(named, {token for token in keyed if token is not None})
    types = _types(file, len(tokens))
    for text, token in named.items():
        shown = text in special.SHOWN or (text == "<|end|>" and token not in ends)
        types[token] = TokenType.USER_DEFINED if shown else TokenType.CONTROL
    if (end := named.get("</s>")) is not None and end not in ends:
        types[end] = TokenType.NORMAL
    types.flags.writeable = False
    template = get("tokenizer.chat_template")
    return Vocabulary(
        model=model,
        tokens=tokens,
        types=types,
        split=split,
        bos=_token_id(file, "bos", len(tokens), 1 if sentencepiece else None),
        eos=_token_id(file, "eos", len(tokens), 2 if sentencepiece else None),
        unknown=_token_id(file, "unknown", len(tokens), 0 if sentencepiece else None),
        add_bos=bool(get("tokenizer.ggml.add_bos_token", split.add_bos)),
        add_eos=bool(get("tokenizer.ggml.add_eos_token", False)),
        add_space_prefix=sentencepiece and bool(get("tokenizer.ggml.add_space_prefix", True)),
        strips_right=_strips_right(file, tokens, types),
        end_of_generation=ends,
        chat_template=template if isinstance(template, str) else None,
    )


def digest(file: GGUFFile) -> str:
    """Hash of everything that `read_vocabulary` and the merges depend on, without decoding it."""
    state = blake2b(FORMAT_VERSION, digest_size=20)
    keys = ["general.name", *sorted(key for key in file.metadata if key.startswith("tokenizer."))]
    for key in keys:
        value = file.metadata.get(key)
        state.update(f"\0{key}\0".encode())
        if isinstance(value, StringArray):
            state.update(value.raw)
        elif isinstance(value, np.ndarray):
            state.update(np.ascontiguousarray(value).data)
        else:
            state.update(repr(value).encode())
    return state.hexdigest()


def _split_rule(file: GGUFFile) -> SplitRule:
    name = file.metadata.get("tokenizer.ggml.pre") or "default"
    try:
        return SPLIT_RULES[str(name)]
    except KeyError:
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.pre {name!r} is not supported; use a model with one of "
            + ", ".join(SPLIT_RULES)
        ) from None


def _token_id(file: GGUFFile, key: str, count: int, default: int | None = None) -> int | None:
    token = file.metadata.get(f"tokenizer.ggml.{key}_token_id", default)
    return token if isinstance(token, int) and 0 <= token < count else None


def _types(file: GGUFFile, count: int) -> npt.NDArray[np.int32]:
    """Token types as an array of our own; every token is NORMAL where the file has no types."""
    stored = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(stored, np.ndarray):
        return np.full(count, TokenType.NORMAL, np.int32)
    if len(stored) < count:
        raise GGUFError(
            f"{file.path}: tokenizer.ggml.token_type has {len(stored)} entries for {count} tokens; "
            "convert the model anew"
        )
    return stored[:count].astype(np.int32)


def _strips_right(
    file: GGUFFile, tokens: tuple[str, ...], types: npt.NDArray[np.int32]
) -> frozenset[int]:
    """Phi-3 drops white space after its special tokens, but GGUF has no field that says so."""
    name = str(file.metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    kinds = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    found = np.flatnonzero(np.isin(types, kinds)).tolist()
    return frozenset(
        token for token in found if tokens[token] not in ("<unk>", "<s>", "<|endoftext|>")
    )
