"""The tokenizer of one model. It gives the same tokens as llama.cpp."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from heapq import nlargest

from runtime.gguf import GGUFFile
from runtime.tokenizer.backend import build_backend, byte_level_bytes
from runtime.tokenizer.cache import TokenizerCache
from runtime.tokenizer.merges import MergeTable, read_merges
from runtime.tokenizer.pieces import SpecialTokens, chunks, prompt_matches
from runtime.tokenizer.token_type import TokenType
from runtime.tokenizer.vocabulary import (
    BYTE_PAIR,
    SENTENCEPIECE,
    SPACE,
    WORDPIECE,
    FillInTokens,
    Vocabulary,
    digest,
    read_vocabulary,
)

Watch = Callable[[int], None]
"""Called during encoding with the minimum number of tokens so far; an exception stops it."""

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def unwatched(tokens: int) -> None:
    """Allow any number of tokens."""


class Tokenizer:
    """Immutable, so any thread may use it."""

    def __init__(self, vocabulary: Vocabulary, merges: MergeTable) -> None:
        """Take a vocabulary and its merges; `Tokenizer.from_gguf` reads both."""
        self._vocabulary = vocabulary
        self._merges = merges
        self.reserving = lru_cache(2)(self._reserving)
        """This tokenizer with another chat template than its own: see `_reserving`."""
        self._encode_text = build_backend(vocabulary, merges)
        self._text_level = not (vocabulary.model == BYTE_PAIR and vocabulary.split.byte_level)
        """Whether the tokens of plain text are text in which SPACE is a space."""
        self._marks_spaces = vocabulary.model == SENTENCEPIECE or (
            self._text_level and vocabulary.model == BYTE_PAIR
        )
        """Whether spaces are marked here, not by the backend."""
        self._longest_token = self._longest()
        self._cuts_lines = self._may_cut_lines()
        typed = set(vocabulary.of_type(TokenType.USER_DEFINED)) - vocabulary.turn_markers
        control = set(vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN))
        self._typed = self._special_tokens(typed)
        """Found in any text."""
        self._reserved = self._special_tokens(control | vocabulary.turn_markers)
        """Found only in what a template wrote."""
        self._control = self._special_tokens(control)
        self._special = self._special_tokens(typed | control | vocabulary.turn_markers)

    @classmethod
    def from_gguf(cls, file: GGUFFile, cache: TokenizerCache | None = None) -> "Tokenizer":
        """Return the tokenizer that a GGUF describes.

        Raises UnsupportedModel, by name, for a tokenizer or a split that this build does not know,
        and GGUFError for an inconsistent vocabulary.
        """
        cache = TokenizerCache() if cache is None else cache

        @lru_cache(1)
        def vocabulary() -> Vocabulary:  # not read at all if the tokenizer is in memory
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
        """Tokens that end a generation."""
        return self._vocabulary.end_of_generation

    @property
    def chat_template(self) -> str | None:
        """Jinja template that turns messages into a prompt, if the file has one."""
        return self._vocabulary.chat_template

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """Further templates in the file, by name, such as tool_use."""
        return self._vocabulary.chat_templates

    @property
    def fill_in(self) -> FillInTokens:
        """The tokens of prompts with a gap that the model fills."""
        return self._vocabulary.fill_in

    @property
    def adds_bos(self) -> bool:
        """Whether a text begins with BOS."""
        return self._vocabulary.add_bos and self._vocabulary.bos is not None

    @property
    def adds_space_prefix(self) -> bool:
        """Whether encoding adds a space before a text, which decoding removes again."""
        return self._vocabulary.add_space_prefix or self._vocabulary.model == WORDPIECE

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        watch: Watch = unwatched,
    ) -> list[int]:
        """Return the tokens of a text; an unpaired surrogate counts as U+FFFD.

        `add_special` adds BOS and EOS if the model wants them, but no second BOS. Only with
        `parse_special` can the text name control tokens: never set it for a user's text.
        """
        vocabulary = self._vocabulary
        special = self._special if parse_special else self._typed
        tokens = self._encode_parts(special.split(well_formed(text)), len(text), watch)
        if add_special:
            self._begin(tokens)
        end = vocabulary.eos if vocabulary.add_eos else vocabulary.separator
        if add_special and end is not None:
            tokens.append(end)
        return tokens

    def encode_prompt(
        self, text: str, own: Sequence[tuple[int, int]], *, watch: Watch = unwatched
    ) -> list[int]:
        """Return the tokens of a prompt that a template wrote, and BOS if the model wants it.

        Only inside the spans `own` (start and end in characters, ascending) can the text name
        control tokens or tokens that mark turns. The text must be well-formed.
        """
        plain = str.__str__(text)  # a TemplateText would find its spans again for each part
        matches = prompt_matches(plain, own, self._typed, self._reserved)
        tokens = self._encode_parts(self._special.parts(plain, matches), len(plain), watch)
        self._begin(tokens)
        return tokens

    def encode_pair(self, query: str, document: str) -> list[int]:
        """Return the tokens of a query and a document, as a model that scores pairs reads them.

        Written by the file's template "rerank" if it has one; only the template itself can name
        control tokens. Else BOS, the query, an end, the document and an end; where texts end with
        EOS and the model has a separator too, it follows the first EOS.
        """
        vocabulary = self._vocabulary
        if (template := self.chat_templates.get("rerank")) is not None:
            given = {"{query}": well_formed(query), "{document}": well_formed(document)}
            text, own = "", list[tuple[int, int]]()
            for part in re.split(r"(\{query\}|\{document\})", template):
                if part not in given and part:
                    own.append((len(text), len(text) + len(part)))
                text += given.get(part, part)
            return self.encode_prompt(text, own)
        tokens = self.encode(query)
        if vocabulary.add_eos and vocabulary.separator is not None:
            tokens.append(vocabulary.separator)
        after = self.encode(document)
        if vocabulary.add_bos and after[:1] == [vocabulary.bos]:
            after = after[1:]
        return tokens + after

    def least_tokens(self, characters: int) -> int:
        """Return a lower bound of the number of tokens of a text with this many characters."""
        return 0 if self._longest_token is None else characters // self._longest_token

    def control_parts(self, text: str) -> list[int | str]:
        """Split the text at the names of control tokens: their ids and the text between them."""
        return list(self._control.split(text))

    def structure_parts(self, text: str) -> list[int | str]:
        """Split the text likewise, with tokens that mark turns counted as control tokens."""
        return list(self._reserved.split(text))

    def _reserving(self, template: str) -> "Tokenizer":
        """Return this tokenizer with the turn markers of `template` reserved for templates."""
        vocabulary = self._vocabulary
        further = vocabulary.marking_turns(template) - vocabulary.turn_markers
        if not further:
            return self
        reserved = replace(vocabulary, turn_markers=vocabulary.turn_markers | further)
        known = reserved.by_text(reserved.merged())
        texts = vocabulary.tokens
        kept = [
            texts[a] + texts[b] in known and texts[a] in known and texts[b] in known
            for a, b in self._merges.tolist()
        ]
        return Tokenizer(reserved, self._merges[kept])

    def token_text(self, token: int) -> str:
        """Return the token as the vocabulary writes it: for a control token its name."""
        return self._vocabulary.tokens[token]

    def _special_tokens(self, tokens: set[int]) -> SpecialTokens:
        vocabulary = self._vocabulary
        return SpecialTokens(
            vocabulary.by_text(sorted(tokens)),
            strips_left=vocabulary.strips_left,
            strips_right=vocabulary.strips_right,
        )

    def _keeps_all(self) -> bool:
        """Whether every character of every text is in a token of its own or in a known one."""
        if not self._text_level:
            return True
        byte_tokens = sum(1 for _ in self._vocabulary.of_type(TokenType.BYTE))
        return self._marks_spaces and byte_tokens == 256

    def _longest(self) -> int | None:
        """Maximum characters of a text in one token; None if there is no limit."""
        vocabulary = self._vocabulary
        if not self._keeps_all() or vocabulary.strips_left or vocabulary.strips_right:
            return None
        return max(map(len, vocabulary.tokens))

    def _may_cut_lines(self) -> bool:
        """Whether a text may be encoded in chunks (see pieces.chunks): no token spans two lines."""
        line_end = "\n" if self._text_level else "Ċ"
        tokens = "\0".join(self._vocabulary.tokens)
        return self._keeps_all() and re.search(f"{line_end}[A-Za-z]", tokens) is None

    def _begin(self, tokens: list[int]) -> None:
        """Insert BOS at the start if the model wants it and it is not there already."""
        vocabulary = self._vocabulary
        if vocabulary.add_bos and vocabulary.bos is not None and tokens[:1] != [vocabulary.bos]:
            tokens.insert(0, vocabulary.bos)

    def _encode_parts(self, parts: Iterable[int | str], characters: int, watch: Watch) -> list[int]:
        """Return the tokens of special tokens and of the texts between them."""
        watch(self.least_tokens(characters))
        prefix = SPACE if self._vocabulary.add_space_prefix and self._marks_spaces else ""
        tokens: list[int] = []
        after_special = True
        for part in parts:
            if isinstance(part, int):
                tokens.append(part)
            else:
                for chunk in chunks(part) if self._cuts_lines else (part,):
                    if self._marks_spaces:
                        chunk = (prefix if after_special else "") + chunk.replace(" ", SPACE)
                    tokens += self._encode_text(chunk)
                    after_special = False
                    watch(len(tokens))
            after_special = isinstance(part, int)
        return tokens

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes a token adds to the text: none for control tokens or unknown ids."""
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

    def plain_bytes(self, token: int) -> bytes:
        """Return the bytes of a plain text token: none for one that marks turns, too."""
        return b"" if token in self._vocabulary.turn_markers else self.token_bytes(token)

    def token_piece(self, token: int) -> bytes:
        """Return the bytes of a token, an id inside the vocabulary, when shown by itself.

        Unlike `token_bytes` this gives the names of control tokens.
        """
        return self.token_bytes(token) or self.token_text(token).encode()

    def longest_pieces(self, count: int) -> list[int]:
        """Return the bytes of the `count` longest tokens, the longest first."""
        sizes = (len(self.token_piece(token)) for token in range(self.vocabulary_size))
        return nlargest(count, sizes)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of the tokens, without a space that encoding added at the start.

        Invalid UTF-8 becomes U+FFFD.
        """
        text = b"".join(map(self.token_bytes, tokens))
        if self.adds_space_prefix:
            text = text.removeprefix(b" ")
        return text.decode("utf-8", "replace")


def well_formed(text: str) -> str:
    """Return the text as UTF-8 can hold it: surrogates are paired if possible, else U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
