"""Ends a text at its stops: strings in which names of control tokens stand for these tokens."""

from collections.abc import Iterable, Sequence

Symbol = str | int
"""A character of the text, or a control token, which adds no text."""


class StopMatcher:
    """Ends a text, which comes in pieces, before its first stop. Owned by one thread.

    The first is the one whose last symbol comes first, and of those that end there the longest. So
    the cut does not depend on where the pieces part. Work and memory are in proportion to the text
    and to the stops together (the automaton of Aho and Corasick).
    """

    def __init__(self, stops: Iterable[Sequence[Symbol]]) -> None:
        """Take stops that are not empty; without any the text passes as it is."""
        self._next: dict[tuple[int, Symbol], int] = {}
        """From a state, which is the beginning of a stop, to the one that is a symbol longer."""
        self._depth = [0]
        self._shorter = [0]
        """The state of the longest beginning of any stop that a state ends with."""
        self._found = [0]
        """Length of the longest stop that a state ends with; 0 where there is none."""
        self._build(stops)
        self._state = 0
        self._held: list[Symbol] = []
        """What may be the beginning of a stop."""
        self.matched = False
        """Whether a stop was found; from then on nothing is let through."""

    def feed(self, symbols: Iterable[Symbol]) -> str:
        """Take in more and give the text that certainly stands before any stop."""
        if self.matched:
            return ""
        held = self._held
        for symbol in symbols:
            held.append(symbol)
            self._state = self._after(self._state, symbol)
            if length := self._found[self._state]:
                self.matched = True
                del held[-length:]
                return self._released(len(held))
        return self._released(len(held) - self._depth[self._state])

    def flush(self) -> str:
        """What was held back, now that no more text can make a stop of it."""
        self._state = 0
        return self._released(len(self._held))

    def _released(self, count: int) -> str:
        """The text of the first symbols that are held, which are so no longer."""
        text = "".join(symbol for symbol in self._held[:count] if isinstance(symbol, str))
        del self._held[:count]
        return text

    def _after(self, state: int, symbol: Symbol) -> int:
        while (longer := self._next.get((state, symbol))) is None:
            if state == 0:
                return 0
            state = self._shorter[state]
        return longer

    def _build(self, stops: Iterable[Sequence[Symbol]]) -> None:
        came_by: list[tuple[int, Symbol]] = []
        for stop in stops:
            state = 0
            for symbol in stop:
                longer = self._next.setdefault((state, symbol), len(self._depth))
                if longer == len(self._depth):
                    came_by.append((state, symbol))
                    self._depth.append(self._depth[state] + 1)
                    self._found.append(0)
                state = longer
            self._found[state] = len(stop)
        self._shorter = [0] * len(self._depth)
        by_depth = sorted(range(1, len(self._depth)), key=self._depth.__getitem__)
        for state in by_depth:
            parent, symbol = came_by[state - 1]
            if parent != 0:
                self._shorter[state] = self._after(self._shorter[parent], symbol)
            self._found[state] = self._found[state] or self._found[self._shorter[state]]
