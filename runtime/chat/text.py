"""Text that knows which of its characters the template itself wrote.

Only there may a control token be. Whatever loses this knowledge on its way through a template is
plain `str`, and counts as typed by a user.
"""

import operator
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, SupportsIndex

Span = tuple[int, int]
"""Start and end of a part of a text, in characters."""


class TemplateText(str):
    """A string and the spans of it that are the template's own. Immutable.

    Slicing, joining, replacing and changing the case of single letters keep the spans; other
    methods return plain strings.
    """

    __slots__ = ("own",)

    own: tuple[Span, ...]
    """Ascending, none of them empty, no two of them touching."""

    def __new__(cls, text: str = "", own: Iterable[Span] = ()) -> "TemplateText":
        """Take a text of which only the given spans are the template's own."""
        made = super().__new__(cls, text)
        made.own = tuple(own)
        return made

    @classmethod
    def wholly_own(cls, text: str) -> "TemplateText":
        """A literal of the template."""
        return cls(text, ((0, len(text)),) if text else ())

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> "TemplateText":
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> "TemplateText":
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, count: SupportsIndex) -> "TemplateText":
        if self.own in ((), ((0, len(self)),)):
            text = super().__mul__(count)
            return TemplateText.wholly_own(text) if self.own else TemplateText(text)
        return joined((self,) * count.__index__())

    __rmul__ = __mul__

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._part(start, max(start, stop)) if step == 1 else super().__getitem__(key)
        index = operator.index(key)
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError("string index out of range")
        return self._part(index, index + 1)

    def join(self, items: Iterable[str]) -> str:
        parts: list[str] = []
        for item in items:
            parts += (self, item) if parts else (item,)
        return joined(parts)

    def lstrip(self, characters: str | None = None) -> str:
        return self._part(len(self) - len(super().lstrip(characters)), len(self))

    def rstrip(self, characters: str | None = None) -> str:
        return self._part(0, len(super().rstrip(characters)))

    def strip(self, characters: str | None = None) -> str:
        end = len(super().rstrip(characters))
        return self._part(min(len(self) - len(super().lstrip(characters)), end), end)

    def removeprefix(self, prefix: str) -> str:
        return self[len(prefix) :] if prefix and self.startswith(prefix) else self

    def removesuffix(self, suffix: str) -> str:
        return self[: -len(suffix)] if suffix and self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._found(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._found(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines: list[str] = []
        place = 0
        for whole, line in zip(super().splitlines(True), super().splitlines(keepends), strict=True):
            lines.append(self._part(place, place + len(line)))
            place += len(whole)
        return lines

    def partition(self, separator: str) -> tuple[str, str, str]:
        before, found, _ = super().partition(separator)
        end = len(before) + len(found)
        return self[: len(before)], self[len(before) : end], self[end:]

    def rpartition(self, separator: str) -> tuple[str, str, str]:
        before, found, _ = super().rpartition(separator)
        end = len(before) + len(found)
        return self[: len(before)], self[len(before) : end], self[end:]

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        if not old:
            return super().replace(old, new, count)
        parts: list[str] = []
        for part in self.split(old, count):
            parts += (new, part) if parts else (part,)
        return joined(parts)

    def upper(self) -> str:
        return respelled(self, super().upper())

    def lower(self) -> str:
        return respelled(self, super().lower())

    def title(self) -> str:
        return respelled(self, super().title())

    def capitalize(self) -> str:
        return respelled(self, super().capitalize())

    def swapcase(self) -> str:
        return respelled(self, super().swapcase())

    def casefold(self) -> str:
        return respelled(self, super().casefold())

    def _found(self, parts: list[str], separator: str | None) -> list[str]:
        """Return the consecutive parts of a split, with their spans."""
        found: list[str] = []
        place = 0
        for part in parts:
            place = place if separator is not None else self.index(part, place)
            found.append(self._part(place, place + len(part)))
            place += len(part) + len(separator or "")
        return found

    def _part(self, start: int, end: int) -> "TemplateText":
        spans: list[Span] = []
        place = bisect_right(self.own, start, key=_end)
        while place < len(self.own) and self.own[place][0] < end:
            first, last = self.own[place]
            spans.append((max(first, start) - start, min(last, end) - start))
            place += 1
        return TemplateText(super().__getitem__(slice(start, end)), spans)


class NoText(str):
    """The content of a message without one: an empty string that also counts as none.

    A template's test for none is true, and printing, slicing or joining it adds
    nothing.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is None or str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def respelled(text: str, spelled: str) -> str:
    """Return a text with its spans after a change of case.

    A letter that becomes several, as ß does, makes the whole text count as typed.
    """
    if isinstance(text, TemplateText) and len(text) == len(spelled):
        return TemplateText(spelled, text.own)
    return spelled


def joined(parts: Iterable[Any]) -> TemplateText:
    """Concatenate the parts; adjacent spans become one."""
    texts = [part if isinstance(part, str) else str(part) for part in parts]
    own: list[Span] = []
    place = 0
    for text in texts:
        if isinstance(text, TemplateText):
            for start, end in text.own:
                if own and own[-1][1] == place + start:
                    own[-1] = (own[-1][0], place + end)
                else:
                    own.append((place + start, place + end))
        place += len(text)
    return TemplateText("".join(texts), own)


def _end(span: Span) -> int:
    return span[1]
