"""Logprobs as answers show them.

Sources of the shapes: OpenAI's API reference ("Create chat completion", "Create completion") and
vLLM's protocol (`prompt_logprobs`).
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from api.schemas import Prompt
from runtime.detokenizer import StreamDecoder
from runtime.finite_json import finite_json
from runtime.sampling import TokenLogprobs
from runtime.tokenizer import Tokenizer


class ShownLogprobs(msgspec.Struct, frozen=True):
    """A request's options for logprobs of its answer and its prompt."""

    answer: int | None = None
    """Number of likeliest tokens with each token; None for no logprobs."""
    prompt: int | None = None
    """The same for each token of the prompt, in vLLM's shape."""
    echo: bool = False
    """Whether the text begins with the prompt, and the logprobs with its tokens."""
    token_ids: bool = False
    """Whether tokens are written by id, as `token_id:5`."""

    @property
    def of_prompt(self) -> int | None:
        """Number of likeliest tokens needed for each token of the prompt."""
        counts = [self.prompt, self.answer if self.echo else None]
        return max((count for count in counts if count is not None), default=None)


class TopLogprob(msgspec.Struct, frozen=True):
    """One of the likeliest tokens in a token's place."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class ContentLogprob(msgspec.Struct, frozen=True):
    """One token of a chat's answer."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[TopLogprob, ...]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """The tokens of a chat's answer, or of a chunk, as LogprobShapes.chat writes them."""

    content: tuple[ContentLogprob, ...]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """The tokens of a completion's text, or of a chunk; null for a token without predecessor."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """The character of the text at which each token begins."""


class PromptLogprob(msgspec.Struct, frozen=True):
    """A token that is possible at one position of a prompt."""

    logprob: float
    rank: int
    decoded_token: str


class LogprobShapes:
    """Converts the engine's logprobs to the API's forms, as JSON. Immutable.

    As JSON, since an answer without logprobs then has no field that may hold a float, and
    finite_json need not look at each token's.
    """

    def __init__(self, tokenizer: Tokenizer, shown: ShownLogprobs) -> None:
        self._tokenizer = tokenizer
        self._shown = shown

    def chat(self, entries: Iterable[TokenLogprobs]) -> msgspec.Raw:
        """Return the tokens of a chat's answer."""
        return _list(map(self._content, entries), b'{"content":[', b'],"refusal":null}')

    def completion(
        self, tokens: Sequence[tuple[int, TokenLogprobs | None]], offsets: list[int]
    ) -> msgspec.Raw:
        """Return the tokens of a text; the first of a prompt has no logprobs."""
        return _raw(
            CompletionLogprobs(
                [self._name(token) for token, _ in tokens],
                [None if entry is None else entry.logprob for _, entry in tokens],
                [None if entry is None else self._top_by_name(entry) for _, entry in tokens],
                offsets,
            )
        )

    def prompt(self, entries: Iterable[TokenLogprobs]) -> msgspec.Raw:
        """Return the tokens of a prompt after its first."""
        return _list(chain((None,), map(self._ranked, entries)), b"[", b"]")

    def _content(self, entry: TokenLogprobs) -> ContentLogprob:
        token, logprob, found = self._piece(entry.token, entry.logprob)
        top = tuple(TopLogprob(*self._piece(*each)) for each in _top(entry, self._shown.answer))
        return ContentLogprob(token, logprob, found, top)

    def _top_by_name(self, entry: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the token itself. Of tokens with one name the likelier stays."""
        found: dict[str, float] = {}
        for token, logprob in (*_top(entry, self._shown.answer), (entry.token, entry.logprob)):
            found.setdefault(self._name(token), logprob)
        return found

    def _ranked(self, entry: TokenLogprobs) -> dict[str, PromptLogprob]:
        found = {
            str(token): PromptLogprob(logprob, rank, self._decoded(token))
            for rank, (token, logprob) in enumerate(_top(entry, self._shown.prompt), 1)
        }
        own = PromptLogprob(entry.logprob, entry.rank, self._decoded(entry.token))
        return {str(entry.token): own} | found

    def _piece(self, token: int, logprob: float) -> tuple[str, float, tuple[int, ...]]:
        name = f"token_id:{token}" if self._shown.token_ids else self._decoded(token)
        return name, logprob, tuple(self._bytes(token))

    def _name(self, token: int) -> str:
        """Return a token in a form that distinguishes it, even if it is not whole characters."""
        if self._shown.token_ids:
            return f"token_id:{token}"
        found = self._bytes(token)
        try:
            return found.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)

    def _decoded(self, token: int) -> str:
        return self._bytes(token).decode("utf-8", "replace")

    def _bytes(self, token: int) -> bytes:
        """Bytes of a token; the model may have more tokens than the vocabulary."""
        is_known = token < self._tokenizer.vocabulary_size
        return self._tokenizer.token_piece(token) if is_known else b""


class TextOffsets:
    """Offsets of tokens in a text, in characters. Owned by one thread."""

    def __init__(self, decoder: StreamDecoder, start: int = 0) -> None:
        """Take the decoder of a text whose first token begins at `start`."""
        self._decoder = decoder
        self._next = start

    def of(self, token: int) -> int:
        """Return the offset of the next token."""
        offset = self._next
        self._next += len(self._decoder.feed(token))
        return offset


def echoed(prompt: Prompt, tokens: Sequence[int], tokenizer: Tokenizer) -> tuple[str, list[int]]:
    """Return the text of a prompt and where its tokens begin in it.

    A text is returned as sent; in token ids, control tokens are written by name.
    """
    if isinstance(prompt, str):
        names = [prompt]
    else:
        control = {token for token in tokens if not tokenizer.token_bytes(token)}
        names = [tokenizer.token_text(token) for token in control]
    decoder = StreamDecoder(tokenizer, shown=names)
    texts = [decoder.feed(token) for token in tokens]
    text = "".join([*texts, decoder.flush()])
    if isinstance(prompt, str):
        text = prompt
    offsets, place = [], 0
    for each in texts:
        offsets.append(min(place, len(text)))
        place += len(each)
    return text, offsets


def _top(entry: TokenLogprobs, count: int | None) -> list[tuple[int, float]]:
    """The `count` likeliest tokens with their logprobs, the likeliest first; all for None."""
    pairs = zip(entry.top_tokens.tolist(), entry.top_logprobs.tolist(), strict=True)
    return list(pairs)[:count]


def _list(entries: Iterable[object], before: bytes, behind: bytes) -> msgspec.Raw:
    """Return the JSON of entries, of which one at a time is in memory."""
    written = bytearray(before)
    for index, entry in enumerate(entries):
        written += b"," * (index > 0) + finite_json(entry)
    return msgspec.Raw(written + behind)


def _raw(logprobs: object) -> msgspec.Raw:
    return msgspec.Raw(finite_json(logprobs))
