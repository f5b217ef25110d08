"""The budget of one rendering of a chat template: work, memory and depth.

Every operation pays for the characters and entries that it touches and makes; nothing is given
back. So a rendering ends in about a second and holds little memory whatever its template does.
"""

import sys
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError

from runtime.tokenizer import Watch, unwatched

MAX_WORK = 400_000_000
"""About nanoseconds of one processor."""
MAX_BYTES = 256 << 20
"""Of all texts and lists made during a rendering, added up."""
MAX_SECONDS = 5.0
"""Of the thread's own time; only a slow machine gets here before the work is used up."""
MAX_DEPTH = 100
"""Levels of lists and mappings inside each other."""
LOOK_EVERY = 5_000_000
"""Work between two looks at the clock and for the client."""

NODE = 60
"""Work of a step of the template's syntax, such as a name."""
NODE_BYTES = 16
BLOCK = 500
"""Work of a block of statements that begins."""
CALL = 1_000
"""Work of an operation in the sandbox."""
MACRO = 5_000
"""Work of a call of a macro, or of a new namespace."""
ENTRY = 60
"""Work per entry of a list that is iterated."""
ENTRY_BYTES = 100
"""Memory per entry of a list that is made."""


class Exhausted(SecurityError):
    """A rendering exceeds its budget."""


class Interrupted(Exception):
    """Wraps an exception of `watch`, its cause, during a rendering."""


class Once:
    """Replaces a generator returned by a Jinja filter: it can be iterated once.

    Owned by one rendering, as everything in it is.
    """

    __slots__ = ("_entries", "_iterator")

    def __init__(self, entries: list[Any]) -> None:
        self._entries = entries
        self._iterator = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._iterator


Group = list | tuple | dict | KeysView | ValuesView | ItemsView | Once  # type: ignore[type-arg]


SIZED = (str, range, list, tuple, dict, KeysView, ValuesView, ItemsView)


class Budget:
    """One rendering's, owned by the thread that renders."""

    __slots__ = ("_bytes", "_ends", "_look_at", "_sizes", "_watch", "_work")

    def __init__(self, watch: Watch = unwatched) -> None:
        """Take what is called every few milliseconds, with 0, for no token is known yet.

        What it raises ends the work, as where a client has left.
        """
        self._work = MAX_WORK
        self._bytes = MAX_BYTES
        self._watch = watch
        self._ends = time.thread_time() + MAX_SECONDS
        self._look_at = self._work
        self._sizes: dict[int, tuple[object, int, int]] = {}
        """Group, size and depth by its id; groups never change, and stay alive for their id."""

    def spend(self, work: int) -> None:
        """Charge for work. Raises Exhausted or Interrupted."""
        self._work -= work
        if self._work < self._look_at:
            self._look()

    def hold(self, size: int) -> None:
        """Charge for bytes of memory, before many are allocated. Raises Exhausted."""
        self._bytes -= size
        if self._bytes < 0:
            raise Exhausted(f"it makes more than {MAX_BYTES >> 20} MiB of text and lists")

    def check(self, size: int) -> None:
        """Raise Exhausted if this many bytes do not fit; charges nothing."""
        if size > self._bytes:
            self.hold(size)

    def step(self, nodes: int) -> bool:
        """Charge for a block of statements; return True."""
        self.spend(BLOCK + nodes * NODE)
        self.hold(nodes * NODE_BYTES)
        return True

    def made(self, value: Any) -> Any:
        """Charge for an operation's result; a generator is read completely."""
        if isinstance(value, str):
            self.hold(sys.getsizeof(value))
            self.spend(len(value) >> 3)
        elif isinstance(value, list | tuple | dict):
            self.hold(ENTRY_BYTES + 16 * len(value))
        elif isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise Exhausted("it computes too large a number")
        elif isinstance(value, Iterator):
            return Once(self.listed(value))
        return value

    def listed(self, values: Iterable[Any]) -> list[Any]:
        """Return the values as a list, each charged for."""
        entries = []
        for value in values:
            self.spend(ENTRY)
            self.hold(ENTRY_BYTES)
            entries.append(value)
        return entries

    def size(self, value: Any) -> int:
        """Return the number of characters and entries of a value, nested ones included.

        Raises Exhausted for one that is nested too deep.
        """
        if isinstance(value, str):
            return len(value)
        if isinstance(value, Group):
            known = self._sizes.get(id(value)) or self._measured(value, 1)
            return known[1]
        if isinstance(value, range):
            return len(value)
        return value.bit_length() // 3 + 1 if isinstance(value, int) else 8

    def _measured(self, group: Any, level: int) -> tuple[object, int, int]:
        if level > MAX_DEPTH:
            raise Exhausted(f"it nests lists deeper than {MAX_DEPTH} levels")
        inside = group._entries if isinstance(group, Once) else group
        self.spend(CALL + ENTRY * 3 * len(inside))
        self.hold(2 * ENTRY_BYTES)
        size, depth = 2 * len(inside) + 1, 0
        for entry in _entries(inside):
            if isinstance(entry, Group):
                known = self._sizes.get(id(entry)) or self._measured(entry, level + 1)
                size += known[1]
                depth = max(depth, known[2])
            else:
                size += self.size(entry)
        if depth >= MAX_DEPTH:
            raise Exhausted(f"it nests lists deeper than {MAX_DEPTH} levels")
        self._sizes[id(group)] = (group, size, depth + 1)
        return self._sizes[id(group)]

    def _look(self) -> None:
        if self._work < 0 or time.thread_time() > self._ends:
            raise Exhausted("it takes too much work; send fewer or shorter messages")
        try:
            self._watch(0)
        except Exception as error:
            raise Interrupted from error
        self._look_at = self._work - LOOK_EVERY


MAX_BITS = 4096
"""Of any integer."""


def entries(value: Any) -> int:
    """Return the number of entries that a filter iterates: 1 for other values."""
    if isinstance(value, Once):
        return len(value._entries)
    return len(value) if isinstance(value, SIZED) else 1


def _entries(group: Any) -> Iterator[Any]:
    """Yield the entries of a group: keys and values of a mapping."""
    yield from group
    if isinstance(group, dict):
        yield from group.values()
