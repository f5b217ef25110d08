"""Computes the length of the fixed texts of a pattern, with its repeats expanded.

llguidance writes `(a{1000}){1000}` out as one text and copies what is left of it at every
character, so the work for a mask grows with that length.
"""

import re
from dataclasses import dataclass

from runtime.errors import InvalidRequest

MAX_FIXED = 10_000
"""Characters of one text that is fixed, its repeats written out."""

ESCAPE = re.compile(r"\\(?:[pPxuU]\{[^}]*\}|.)", re.DOTALL)
GROUP = re.compile(r"\((?:\?(?:P?<\w+>|(?P<flags>[A-Za-z-]*):?))?")
COUNT = re.compile(r"\{\s*(\d+)\s*\}")


@dataclass(slots=True)
class _Group:
    """Lengths of a group's longest alternative, of the one being read, and of its last item."""

    longest: int = 0
    length: int = 0
    last: int = 0


class FixedText:
    """Adds up the parts of a pattern in their order. Owned by one call."""

    def __init__(self) -> None:
        self._groups = [_Group()]

    @property
    def length(self) -> int:
        """Maximum length of an alternative so far, in the open group."""
        return max(self._groups[-1].longest, self._groups[-1].length)

    def item(self, length: int) -> None:
        """Add a part of this length; a part that is not fixed counts as one."""
        self._groups[-1].length += length
        self._groups[-1].last = length

    def repeat(self, times: int) -> None:
        """Repeat the last item this many times."""
        group = self._groups[-1]
        group.length += group.last * (times - 1)
        group.last *= times

    def alternative(self) -> None:
        """Begin another alternative of the group."""
        self._groups[-1] = _Group(longest=self.length)

    def open(self) -> None:
        """Begin a group."""
        self._groups.append(_Group())

    def close(self) -> None:
        """End the group; it is the last item of the one around it."""
        length = self.length
        if len(self._groups) > 1:
            self._groups.pop()
            self.item(length)


def expect_short_pattern(pattern: str, field: str) -> None:
    """Raise InvalidRequest if a pattern, in Rust's syntax, has too long a fixed text."""
    fixed = FixedText()
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "(" and (found := GROUP.match(pattern, at)):
            if "x" in (found["flags"] or ""):
                raise InvalidRequest(
                    f"{field} cannot be honoured: leave out the flag x of a pattern", field=field
                )
            fixed.open()
            at = found.end()
        elif letter == "{" and (found := COUNT.match(pattern, at)):
            fixed.repeat(int(found[1]))
            at = found.end()
        elif letter == "\\" and (found := ESCAPE.match(pattern, at)):
            fixed.item(1)
            at = found.end()
        elif letter == "[":
            fixed.item(1)
            at = _class_end(pattern, at)
        else:
            if letter == ")":
                fixed.close()
            elif letter == "|":
                fixed.alternative()
            else:
                fixed.item(1)
            at += 1
    expect_short_text(fixed.length, field)


def expect_short_text(length: int, field: str) -> None:
    """Raise InvalidRequest if a fixed text is too long."""
    if length > MAX_FIXED:
        raise InvalidRequest(
            f"{field} cannot be honoured: it holds a fixed text of more than {MAX_FIXED}"
            " characters, with its repeats written out; make it shorter",
            field=field,
        )


def _class_end(pattern: str, at: int) -> int:
    """Return where a class of characters ends, with the classes inside it."""
    depth = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 2 if letter == "\\" else 1
        if letter == "[":
            depth += 1
            at += pattern.startswith("^", at)
            at += pattern.startswith("]", at)  # a literal there
        elif letter == "]":
            depth -= 1
            if depth == 0:
                break
    return at
