"""Cuts a text into pieces that are encoded separately: special tokens, and text between them.

Every function is linear in the text, whatever it contains.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

WHITE_SPACE = " \t\n\r\v\f"
CHUNK_CHARACTERS = 1 << 16
"""Minimum length of a chunk of text, except the last: some milliseconds of work."""

_LINE_END = re.compile(r"\S\n(?=[A-Za-z])")


class SpecialTokens:
    """Finds the names of tokens in a text: leftmost first, the longest there. Immutable."""

    def __init__(
        self,
        ids: Mapping[str, int],
        *,
        strips_left: frozenset[int] = frozenset(),
        strips_right: frozenset[int] = frozenset(),
    ) -> None:
        """Take the tokens' texts, none of them empty; some drop white space next to them."""
        self._ids = ids
        self._strips_left = strips_left
        self._strips_right = strips_right

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        try:
            return re.compile(_any_of(self._ids))
        except RecursionError:  # hundreds of texts, each a prefix of the next
            texts = sorted(self._ids, key=len, reverse=True)
            return re.compile("|".join(map(re.escape, texts)))

    def search(self, text: str, start: int, end: int) -> re.Match[str] | None:
        """Return the first of them between two positions."""
        return self._pattern.search(text, start, end)

    def split(self, text: str) -> Iterator[int | str]:
        """Yield token ids and the pieces of text between them, none of them empty."""
        return self.parts(text, self._pattern.finditer(text))

    def parts(self, text: str, found: Iterable[re.Match[str]]) -> Iterator[int | str]:
        """Yield the same for given matches, in order."""
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


def prompt_matches(
    text: str, own: Sequence[tuple[int, int]], typed: SpecialTokens, reserved: SpecialTokens
) -> Iterator[re.Match[str]]:
    """Yield matches of `typed` tokens anywhere and of `reserved` ones inside the spans `own`.

    The leftmost comes first, and among those the longest. One pass over both.
    """
    place = 0
    spans = deque(own)
    next_typed = typed.search(text, 0, len(text))
    next_reserved: re.Match[str] | None = None
    while True:
        if next_typed is not None and next_typed.start() < place:
            next_typed = typed.search(text, place, len(text))
        if next_reserved is not None and next_reserved.start() < place:
            next_reserved = None
        while next_reserved is None and spans:
            start, end = spans[0]
            if end > place:
                next_reserved = reserved.search(text, max(start, place), end)
            if next_reserved is None:
                spans.popleft()
        found = [match for match in (next_typed, next_reserved) if match is not None]
        if not found:
            return
        first = min(found, key=lambda match: (match.start(), -match.end()))
        yield first
        place = first.end()


def chunks(text: str) -> Iterator[str]:
    """Yield parts of a text that give the same tokens as the whole, cut at line ends.

    They are cut between a line end that follows a punctuation mark and a letter that begins the
    next line: there every word splitter cuts too, and no rule looks across the cut.
    """
    start = 0
    while len(text) - start > CHUNK_CHARACTERS:
        cut = _LINE_END.search(text, start + CHUNK_CHARACTERS)
        if cut is None:
            break
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]


def _any_of(texts: Iterable[str]) -> str:
    """Return an expression for any of these texts, the longest first, without backtracking."""
    ordered = sorted(texts)
    return _branches(ordered, 0, len(ordered), 0) if ordered else r"(?!)"


def _branches(texts: Sequence[str], first: int, last: int, depth: int) -> str:
    """Return an expression of what follows `depth` equal characters in sorted texts[first:last]."""
    ends = len(texts[first]) == depth
    first += ends
    branches: list[str] = []
    while first < last:
        letter = texts[first][depth]
        after = first + 1
        while after < last and texts[after][depth] == letter:
            after += 1
        common = _common(texts[first], texts[after - 1], depth)
        head = re.escape(texts[first][depth:common])
        branches.append(head + _branches(texts, first, after, common))
        first = after
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)}){'?' if ends else ''}"


def _common(one: str, other: str, start: int) -> int:
    """Return the position where two texts, equal before `start`, differ or one of them ends."""
    end = start
    while end < min(len(one), len(other)) and one[end] == other[end]:
        end += 1
    return end
