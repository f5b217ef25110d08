"""Turns a stream of tokens into text as soon as its characters are complete."""

import codecs
from collections.abc import Iterable, Sequence

from runtime.stops import StopMatcher, Symbol
from runtime.tokenizer import Tokenizer


class StreamDecoder:
    """Incremental `Tokenizer.decode` of one request. Owned by one thread."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        continues: bool = False,
        stops: Sequence[str] = (),
        shown: Iterable[str] = (),
    ) -> None:
        """Start a text, or with `continues` continue one, whose first space then is kept.

        The text ends before the first of the `stops` (see StopMatcher). The name of a control token
        in a stop means this token, though it adds no text. Control tokens named in one of `shown`
        do add their name.
        """
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = tokenizer.adds_space_prefix and not continues
        self.stops = tuple(stops)
        """The stops as given."""
        self._shown = {
            token: tokenizer.token_text(token)
            for text in shown
            for token in tokenizer.control_parts(text)
            if isinstance(token, int)
        }
        self._named: set[int] = set()
        """Control tokens named in a stop."""
        self._matcher = StopMatcher(map(self._symbols, stops)) if stops else None

    @property
    def stopped(self) -> bool:
        """Whether a stop was found; nothing is added to the text any more."""
        return self._matcher is not None and self._matcher.matched

    @property
    def found_stop(self) -> str | None:
        """The stop that was found, as given."""
        if self._matcher is None or not self._matcher.matched:
            return None
        return next(
            stop for stop in self.stops if tuple(self._symbols(stop)) == self._matcher.found
        )

    @property
    def whole(self) -> bool:
        """Whether the last character has all its bytes."""
        return not self._decoder.getstate()[0]

    def feed(self, token: int) -> str:
        """Return the text that the token completes, "" while its last character is incomplete.

        Invalid UTF-8 becomes U+FFFD. All texts together are `decode` of all tokens, cut before the
        first stop; text that may begin a stop is held back until that is known.
        """
        added = self._tokenizer.token_bytes(token)
        if self._drops_space and added:
            added = added.removeprefix(b" ")
            self._drops_space = False
        text = self._decoder.decode(added)
        if token in self._named and self._matcher is not None:
            return self._matcher.feed((token,))
        if token in self._shown:
            text += self._decoder.decode(b"", final=True) + self._shown[token]
            self._decoder.reset()
        return text if self._matcher is None else self._matcher.feed(text)

    def flush(self) -> str:
        """Return what is left at the end: held text, and U+FFFD for an incomplete character."""
        left = self._decoder.decode(b"", final=True)
        return left if self._matcher is None else self._matcher.feed(left) + self._matcher.flush()

    def _symbols(self, stop: str) -> list[Symbol]:
        symbols: list[Symbol] = []
        for part in self._tokenizer.control_parts(stop):
            if isinstance(part, int):
                self._named.add(part)
                symbols.append(part)
            else:
                symbols += part
        return symbols
