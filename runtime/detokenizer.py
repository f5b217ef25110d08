"""Turns a stream of tokens into text, as soon as its characters are complete."""

import codecs
from collections.abc import Sequence

from runtime.tokenizer import Tokenizer


class StopMatcher:
    """Ends a text, which comes in pieces, before its first stop string. Owned by one thread.

    The first is the one whose last character comes first, and of those that end there the longest.
    So the cut does not depend on where the pieces part.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Stop strings are not empty; without any the text passes as it is."""
        self._stops = tuple(stops)
        self._held = ""
        """Text that may be the beginning of a stop string: shorter than the longest of them."""
        self.matched = False
        """Whether a stop string was found; from then on nothing is let through."""

    def feed(self, text: str) -> str:
        """Take in more text and give what certainly stands before any stop string."""
        if self.matched:
            return ""
        text = self._held + text
        found = [
            (start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0
        ]
        if found:
            self.matched = True
            _, certain = min(found)
            self._held = ""
        else:
            certain = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
            self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """What was held back, now that no more text can make a stop string of it."""
        held, self._held = self._held, ""
        return held


class StreamDecoder:
    """Incremental `Tokenizer.decode` of one request. Owned by one thread."""

    def __init__(
        self, tokenizer: Tokenizer, *, continues: bool = False, stops: Sequence[str] = ()
    ) -> None:
        """Start a text, or with `continues` go on in one, whose first space then is kept.

        The text ends before the first of the `stops` (see StopMatcher).
        """
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = tokenizer.adds_space_prefix and not continues
        self._matcher = StopMatcher(stops)

    @property
    def stopped(self) -> bool:
        """Whether the text has come to a stop string; nothing is added to it any more."""
        return self._matcher.matched

    def feed(self, token: int) -> str:
        """Text that the token completes, "" while its last character lacks bytes.

        Bytes that are not UTF-8 become U+FFFD. All texts joined are `decode` of all tokens, cut
        before the first stop string; what may begin one is held back until that is known.
        """
        added = self._tokenizer.token_bytes(token)
        if self._drops_space and added:
            added = added.removeprefix(b" ")
            self._drops_space = False
        return self._matcher.feed(self._decoder.decode(added))

    def flush(self) -> str:
        """What is left at the end: held text, and U+FFFD for a character never completed."""
        left = self._decoder.decode(b"", final=True)
        return self._matcher.feed(left) + self._matcher.flush()


def _overlap(text: str, stop: str) -> int:
    """Length of the longest beginning of `stop`, but not all of it, that `text` ends with."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)
