"""Reads a GGUF's vocabulary, validated and completed by the defaults of llama.cpp."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile, StringArray
from runtime.tokenizer import special
from runtime.tokenizer.splits import SPLIT_RULES, SplitRule
from runtime.tokenizer.token_type import TokenType

BYTE_PAIR, GEMMA_4, SENTENCEPIECE, WORDPIECE, UNIGRAM = "gpt2", "gemma4", "llama", "bert", "t5"
"""Values of `tokenizer.ggml.model`."""
SPACE = "▁"
"""The character that SentencePiece writes for a space inside a token."""
FORMAT_VERSION = b"3"
"""Part of every digest: a new way to read a vocabulary must not use an old cache file."""
NAMED_TEMPLATE = "tokenizer.chat_template."

NO_SCORES = np.zeros(0)
MERGED_TYPES = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)
"""Types of the tokens that typed text may be merged into, except those that mark turns."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Defaults of a kind of tokenizer for what a file does not state."""

    bos: int | None = None
    eos: int | None = None
    separator: int | None = None
    unknown: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    pre: str | None = None
    """Name of the split; None if there are no splits."""


DEFAULTS = {
    BYTE_PAIR: Defaults(pre="default"),
    GEMMA_4: Defaults(pre="gemma4"),
    SENTENCEPIECE: Defaults(bos=1, eos=2, unknown=0, add_bos=True, add_space_prefix=True),
    WORDPIECE: Defaults(bos=101, separator=102, unknown=100, add_bos=True),
    UNIGRAM: Defaults(eos=1, unknown=2, add_eos=True),
}


@dataclass(frozen=True, slots=True)
class Normalization:
    """Normalization of a text before WordPiece or Unigram split it."""

    lowercase: bool
    strip_accents: bool
    merge_spaces: bool
    """Whether each run of white space counts as one space, and none at the ends."""
    character_map: bytes
    """SentencePiece's compiled table of replacements; empty if there is none."""


@dataclass(frozen=True, slots=True)
class FillInTokens:
    """The tokens of a code model's prompts with a gap, None where the file has none. Immutable."""

    prefix: int | None
    """Before the text before the gap."""
    suffix: int | None
    """Before the text after the gap."""
    middle: int | None
    """Before the text that fills the gap."""
    repository: int | None
    """Before the name of a repository."""
    file: int | None
    """Before the name of a file."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The tokens that no gap can be filled without, and that are not there."""
        needed = ("prefix", "suffix", "middle")
        return tuple(name for name in needed if getattr(self, name) is None)


@dataclass(frozen=True)
class Vocabulary:
    """Immutable. `tokens[i]` is the stored text of token i, `types[i]` its gguf.TokenType."""

    model: str
    """BYTE_PAIR, SENTENCEPIECE, WORDPIECE or UNIGRAM."""
    tokens: tuple[str, ...]
    types: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float64]
    """Of SentencePiece and Unigram, the higher the better; else empty."""
    split: SplitRule
    bos: int | None
    eos: int | None
    separator: int | None
    """Token that ends a text of WordPiece."""
    unknown: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    strips_left: frozenset[int]
    """Special tokens before which white space is dropped."""
    strips_right: frozenset[int]
    """Special tokens after which white space is dropped."""
    end_of_generation: frozenset[int]
    turn_markers: frozenset[int]
    """USER_DEFINED tokens that are shown as text, but only templates may write."""
    normalization: Normalization
    chat_template: str | None
    chat_templates: Mapping[str, str]
    """Further ones, by name."""
    fill_in: FillInTokens

    def of_type(self, *types: TokenType) -> Iterator[int]:
        """Yield ids of the tokens of these types, ascending."""
        return iter(np.flatnonzero(np.isin(self.types, types)).tolist())

    def is_of_type(self, token: int, *types: TokenType) -> bool:
        """Whether the token, an id inside the vocabulary, is of one of these types."""
        return int(self.types[token]) in types

    def ids(self, *types: TokenType) -> dict[str, int]:
        """Map text to id of the tokens of these types; the last of equal texts counts."""
        return self.by_text(self.of_type(*types))

    def marking_turns(self, templates: str) -> frozenset[int]:
        """Return the USER_DEFINED tokens that mark turns if these are the model's templates."""
        return _marking_turns(self.tokens, self.types, templates)

    def by_text(self, ids: Iterable[int]) -> dict[str, int]:
        """Map text to id of these tokens; the last of equal texts counts."""
        return {self.tokens[token]: token for token in ids}

    def merged(self) -> list[int]:
        """Return ids of the tokens that typed text may be merged into, ascending."""
        return [token for token in self.of_type(*MERGED_TYPES) if token not in self.turn_markers]


def read_vocabulary(file: GGUFFile) -> Vocabulary:
    """Return the vocabulary of a GGUF.

    Raises UnsupportedModel for a tokenizer or a split that this build does not know, GGUFError for
    inconsistent arrays.
    """
    get = file.metadata.get
    model = str(get("tokenizer.ggml.model", ""))
    if model not in DEFAULTS:
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.model {model!r} is not supported; "
            "use a model whose tokenizer is one of " + ", ".join(DEFAULTS)
        )
    default = DEFAULTS[model]
    split = _split_rule(file, default)
    model = BYTE_PAIR if model == GEMMA_4 else model
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
    keyed = {
        key: token
        for key in special.ID_KEYS
        if (token := _token_id(file, key, len(tokens))) is not None
    }
    if default.eos is not None and 0 <= default.eos < len(tokens):
        keyed.setdefault("eos", default.eos)
    ends = special.ends_of_generation(tokens, named, keyed, _listed_ends(file, len(tokens)))
    types = _types(file, len(tokens))
    for text, token in named.items():
        shown = text in special.SHOWN or (text == "<|end|>" and token not in ends)
        types[token] = TokenType.USER_DEFINED if shown else TokenType.CONTROL
    if (end := named.get("</s>")) is not None and end not in ends:
        types[end] = TokenType.NORMAL
    types.flags.writeable = False
    template = get("tokenizer.chat_template")
    if isinstance(template, StringArray):
        template = template[0] if len(template) else None
    return Vocabulary(
        model=model,
        tokens=tokens,
        types=types,
        scores=_scores(file, len(tokens)) if model in (SENTENCEPIECE, UNIGRAM) else NO_SCORES,
        split=split,
        bos=_token_id(file, "bos", len(tokens), default.bos),
        eos=_token_id(file, "eos", len(tokens), default.eos),
        separator=_token_id(file, "seperator", len(tokens), default.separator)
        if model == WORDPIECE
        else None,
        unknown=_token_id(file, "unknown", len(tokens), default.unknown),
        add_bos=split.always_add_bos
        or bool(get("tokenizer.ggml.add_bos_token", default.add_bos or split.add_bos)),
        add_eos=bool(get("tokenizer.ggml.add_eos_token", default.add_eos)),
        add_space_prefix=model in (SENTENCEPIECE, UNIGRAM)
        and bool(get("tokenizer.ggml.add_space_prefix", default.add_space_prefix)),
        strips_left=_strips_left(file, tokens),
        strips_right=_strips_right(file, tokens, types),
        end_of_generation=ends,
        turn_markers=_turn_markers(file, tokens, types),
        normalization=_normalization(file),
        chat_template=template if isinstance(template, str) else None,
        chat_templates={
            key.removeprefix(NAMED_TEMPLATE): value
            for key, value in file.metadata.items()
            if key.startswith(NAMED_TEMPLATE) and isinstance(value, str)
        },
        fill_in=_fill_in(file, tokens),
    )


def digest(file: GGUFFile) -> str:
    """Hash everything that `read_vocabulary` and the merges depend on, without decoding it."""
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


def _split_rule(file: GGUFFile, default: Defaults) -> SplitRule:
    if default.pre is None:
        return SplitRule(())
    stored = file.metadata.get("tokenizer.ggml.pre") if default.pre == "default" else None
    name = str(stored or default.pre)
    try:
        return SPLIT_RULES[name]
    except KeyError:
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.pre {name!r} is not supported; use a model with one of "
            + ", ".join(SPLIT_RULES)
        ) from None


def _token_id(file: GGUFFile, key: str, count: int, default: int | None = None) -> int | None:
    token = file.metadata.get(f"tokenizer.ggml.{key}_token_id", default)
    if isinstance(token, np.ndarray):  # several: the first is the one, all of them end a text
        token = token.tolist()[0] if token.size else default
    return token if isinstance(token, int) and 0 <= token < count else None


def _fill_in(file: GGUFFile, tokens: tuple[str, ...]) -> FillInTokens:
    """Return the tokens of prompts with a gap: by their keys, older keys, or names."""
    named = {text: token for token, text in enumerate(tokens) if text in special.CONTROL}

    def found(key: str, names: Iterable[str], older: str = "") -> int | None:
        token = _token_id(file, key, len(tokens))
        if token is None and older:
            token = _token_id(file, older, len(tokens))
        return (
            next((named[name] for name in names if name in named), None) if token is None else token
        )

    return FillInTokens(
        prefix=found("fim_pre", special.FILL_IN_THE_MIDDLE["fim_pre"], "prefix"),
        suffix=found("fim_suf", special.FILL_IN_THE_MIDDLE["fim_suf"], "suffix"),
        middle=found("fim_mid", special.FILL_IN_THE_MIDDLE["fim_mid"], "middle"),
        repository=found("fim_rep", sorted(special.ENDS_UNLESS_KEYED["fim_rep"])),
        file=found("fim_sep", sorted(special.ENDS_UNLESS_KEYED["fim_sep"])),
    )


def _listed_ends(file: GGUFFile, count: int) -> list[int]:
    """Return the ids of `tokenizer.ggml.eos_token_ids`, which Ollama's files have.

    Other files have several in `eos_token_id` itself.
    """
    keys = ("tokenizer.ggml.eos_token_ids", "tokenizer.ggml.eos_token_id")
    stored = [file.metadata.get(key) for key in keys]
    tokens = [token for each in stored if isinstance(each, np.ndarray) for token in each.tolist()]
    return [token for token in tokens if isinstance(token, int) and 0 <= token < count]


def _turn_markers(
    file: GGUFFile, tokens: tuple[str, ...], types: npt.NDArray[np.int32]
) -> frozenset[int]:
    templates = "\n".join(
        text
        for key, text in file.metadata.items()
        if key.startswith("tokenizer.chat_template") and isinstance(text, str)
    )
    return _marking_turns(tokens, types, templates)


def _marking_turns(
    tokens: tuple[str, ...], types: npt.NDArray[np.int32], templates: str
) -> frozenset[int]:
    typed = np.flatnonzero(types == TokenType.USER_DEFINED).tolist()
    return frozenset(token for token in typed if special.marks_a_turn(tokens[token], templates))


def _types(file: GGUFFile, count: int) -> npt.NDArray[np.int32]:
    """Return token types as a new array; every token is NORMAL if the file has no types."""
    stored = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(stored, np.ndarray):
        return np.full(count, TokenType.NORMAL, np.int32)
    if len(stored) < count:
        raise GGUFError(
            f"{file.path}: tokenizer.ggml.token_type has {len(stored)} entries for {count} tokens; "
            "convert the model anew"
        )
    return stored[:count].astype(np.int32)


def _scores(file: GGUFFile, count: int) -> npt.NDArray[np.float64]:
    stored = file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(stored, np.ndarray) or len(stored) < count:
        raise GGUFError(
            f"{file.path}: tokenizer.ggml.scores is missing or too short; convert the model anew"
        )
    return stored[:count].astype(np.float64)


def _normalization(file: GGUFFile) -> Normalization:
    get = file.metadata.get
    lowercase = bool(get("tokenizer.ggml.normalizer.lowercase", True))
    stored = get("tokenizer.ggml.precompiled_charsmap")
    return Normalization(
        lowercase,
        strip_accents=bool(get("tokenizer.ggml.normalizer.strip_accents", lowercase)),
        merge_spaces=bool(get("tokenizer.ggml.remove_extra_whitespaces", False)),
        character_map=stored.astype(np.uint8).tobytes() if isinstance(stored, np.ndarray) else b"",
    )


def _strips_left(file: GGUFFile, tokens: tuple[str, ...]) -> frozenset[int]:
    """Return the masks of embedding models, which drop white space before; no field says so."""
    pre = str(file.metadata.get("tokenizer.ggml.pre", ""))
    architecture = str(file.metadata.get("general.architecture", ""))
    masked = pre in ("jina-v2-de", "jina-v2-es", "jina-v2-code") or architecture in (
        "nomic-bert-moe",
        "jina-bert-v3",
    )
    if not masked or "<mask>" not in tokens:
        return frozenset()
    return frozenset({tokens.index("<mask>")})


def _strips_right(
    file: GGUFFile, tokens: tuple[str, ...], types: npt.NDArray[np.int32]
) -> frozenset[int]:
    """Return Phi-3's special tokens, which drop white space after; no GGUF field says so."""
    name = str(file.metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    kinds = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    found = np.flatnonzero(np.isin(types, kinds)).tolist()
    return frozenset(
        token for token in found if tokens[token] not in ("<unk>", "<s>", "<|endoftext|>")
    )
