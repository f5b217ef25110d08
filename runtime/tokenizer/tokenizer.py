"""The tokenizer of one model. It behaves as llama.cpp does, so prompts give the same tokens."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

from gguf.constants import TokenType

from runtime.gguf import GGUFFile
from runtime.tokenizer.backend import build_backend, byte_level_bytes
from runtime.tokenizer.cache import TokenizerCache
from runtime.tokenizer.merges import MergeTable, read_merges
from runtime.tokenizer.vocabulary import (
    BYTE_PAIR,
    SENTENCEPIECE,
    SPACE,
    WORDPIECE,
    Vocabulary,
    digest,
    read_vocabulary,
)

WHITE_SPACE = " \t\n\r\v\f"
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Tokenizer:
    """Immutable, so any thread may use it."""

    def __init__(self, vocabulary: Vocabulary, merges: MergeTable) -> None:
        """Take a vocabulary and its merges; `Tokenizer.from_gguf` reads both."""
        self._vocabulary = vocabulary
        self._backend = build_backend(vocabulary, merges)
        self._text_level = not (vocabulary.model == BYTE_PAIR and vocabulary.split.byte_level)
        """Whether the tokens of plain text are text in which SPACE is a space."""
        self._marks_spaces = vocabulary.model == SENTENCEPIECE or (
            self._text_level and vocabulary.model == BYTE_PAIR
        )
        """Whether spaces are to be marked here, not by the backend."""
        self._shown = _SpecialTokens(vocabulary, TokenType.USER_DEFINED)
        self._control = _SpecialTokens(vocabulary, TokenType.CONTROL, TokenType.UNKNOWN)
        self._special = _SpecialTokens(
            vocabulary, TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN
        )

    @classmethod
    def from_gguf(cls, file: GGUFFile, cache: TokenizerCache | None = None) -> "Tokenizer":
        """The tokenizer that a GGUF describes.

        Raises UnsupportedModel, by name, for a tokenizer or a split that this build does not know,
        and GGUFError for a vocabulary that does not fit together.
        """
        cache = TokenizerCache() if cache is None else cache

        @lru_cache(1)
        def vocabulary() -> Vocabulary:  # not read at all where the tokenizer is in memory
            return read_vocabulary(file)

        return cache.tokenizer(
            digest(file),
            lambda: read_merges(file, vocabulary()),
            lambda merges: cls(vocabulary(), merges),
        )

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens; the model's logits may have a few more entries for padding."""
        return len(self._vocabulary.tokens)

    @property
    def bos(self) -> int | None:
        """Token that begins a text, if there is one."""
        return self._vocabulary.bos

    @property
    def eos(self) -> int | None:
        """Token that ends a text, if there is one."""
        return self._vocabulary.eos

    @property
    def end_of_generation(self) -> frozenset[int]:
        """Tokens after which a model has nothing more to say."""
        return self._vocabulary.end_of_generation

    @property
    def chat_template(self) -> str | None:
        """Jinja template that turns messages into a prompt, if the file has one."""
        return self._vocabulary.chat_template

    @property
    def adds_space_prefix(self) -> bool:
        """Whether encoding puts a space in front of a text, which decoding takes away again."""
        return self._vocabulary.add_space_prefix or self._vocabulary.model == WORDPIECE

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Tokens of a text; an unpaired surrogate counts as U+FFFD.

        `add_special` adds BOS and EOS where the model wants them. Only with `parse_special` can the
        text name control tokens: never set it for what a user typed.
        """
        vocabulary = self._vocabulary
        tokens: list[int] = []
        if add_special and vocabulary.add_bos and vocabulary.bos is not None:
            tokens.append(vocabulary.bos)
        special = self._special if parse_special else self._shown
        tokens += self._encode_parts(special.split(well_formed(text)))
        end = vocabulary.eos if vocabulary.add_eos else vocabulary.separator
        if add_special and end is not None:
            tokens.append(end)
        return tokens

    def encode_prompt(self, text: str, own: Sequence[tuple[int, int]]) -> list[int]:
        """Tokens of a prompt that a template wrote, with BOS in front where the model wants it.

        Only inside the spans `own` (start and end in characters, ascending) can the text name
        control tokens. The text must be well-formed.
        """
        vocabulary = self._vocabulary
        tokens = list(
            self._encode_parts(
                self._special.parts(text, _prompt_matches(text, own, self._shown, self._control))
            )
        )
        if vocabulary.add_bos and vocabulary.bos is not None and tokens[:1] != [vocabulary.bos]:
            tokens.insert(0, vocabulary.bos)
        return tokens

    def token_text(self, token: int) -> str:
        """The token as the vocabulary writes it: that of a control token is its name."""
        return self._vocabulary.tokens[token]

    def _encode_parts(self, parts: Iterable[int | str]) -> Iterator[int]:
        """Tokens of special tokens and of the texts between them."""
        prefix = SPACE if self._vocabulary.add_space_prefix and self._marks_spaces else ""
        after_special = True
        for part in parts:
            if isinstance(part, int):
                yield part
            else:
                if self._marks_spaces:
                    part = (prefix if after_special else "") + part.replace(" ", SPACE)
                yield from self._backend.encode(part, add_special_tokens=False).ids
            after_special = isinstance(part, int)

    def token_bytes(self, token: int) -> bytes:
        """Bytes that a token adds to the text: none for control tokens and ids past the end."""
        vocabulary = self._vocabulary
        if not 0 <= token < len(vocabulary.tokens):
            return b""
        text = vocabulary.tokens[token]
        match int(vocabulary.types[token]):
            case TokenType.USER_DEFINED:
                return text.encode()
            case TokenType.BYTE:
                return bytes([int(text[3:5], 16)]) if BYTE_TOKEN.fullmatch(text) else text.encode()
            case TokenType.NORMAL if self._text_level:
                return text.replace(SPACE, " ").encode()
            case TokenType.NORMAL:
                return byte_level_bytes(text)
        return b""

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of the tokens, without a space that encoding put in front.

        Bytes that are not UTF-8 become U+FFFD.
        """
        text = b"".join(map(self.token_bytes, tokens))
        if self.adds_space_prefix:
            text = text.removeprefix(b" ")
        return text.decode("utf-8", "replace")


class _SpecialTokens:
    """Finds the texts of some types of tokens in a text: leftmost first, the longest there."""

    def __init__(self, vocabulary: Vocabulary, *types: TokenType) -> None:
        self._ids = vocabulary.ids(*types)
        self._strips_left = vocabulary.strips_left
        self._strips_right = vocabulary.strips_right

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        texts = sorted(self._ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")

    def search(self, text: str, start: int, end: int) -> re.Match[str] | None:
        """The first of them that lies between two places."""
        return self._pattern.search(text, start, end)

    def split(self, text: str) -> Iterator[int | str]:
        """Token ids and the pieces of text between them, none of them empty."""
        return self.parts(text, self._pattern.finditer(text))

    def parts(self, text: str, found: Iterable[re.Match[str]]) -> Iterator[int | str]:
        """The same for matches of one's own, which follow each other."""
        start = 0
        for match in found:
            token = self._ids[match[0]]
            before = text[start : match.start()]
            if token in self._strips_left:
                before = before.rstrip(WHITE_SPACE)
            if before:
                yield before
            yield token
            start = match.end()
            if token in self._strips_right:
                while start < len(text) and text[start] in WHITE_SPACE:
                    start += 1
        if start < len(text):
            yield text[start:]


def _prompt_matches(
    text: str, own: Sequence[tuple[int, int]], shown: _SpecialTokens, control: _SpecialTokens
) -> Iterator[re.Match[str]]:
    """Tokens that are always found, and those that only own text may name: the leftmost first."""
    place = 0
    spans = deque(own)
    next_shown = shown.search(text, 0, len(text))
    next_control: re.Match[str] | None = None
    while True:
        if next_shown is not None and next_shown.start() < place:
            next_shown = shown.search(text, place, len(text))
        if next_control is not None and next_control.start() < place:
            next_control = None
        while next_control is None and spans:
            start, end = spans[0]
            next_control = control.search(text, max(start, place), end) if end > place else None
            if next_control is None:
                spans.popleft()
        found = [match for match in (next_shown, next_control) if match is not None]
        if not found:
            return
        first = min(found, key=lambda match: (match.start(), -match.end()))
        yield first
        place = first.end()


def well_formed(text: str) -> str:
    """The text as UTF-8 can hold it: surrogates are paired where they can be, else U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
