"""Finds stop strings, in which names of control tokens mean these tokens."""

from collections.abc import Iterable, Sequence

Symbol = str | int
"""A character of the text, or a control token, which adds no text."""


class StopMatcher:
    """Ends a text, which arrives in pieces, before its first stop. Owned by one thread.

    The first stop is the one whose last symbol comes first, and among those the longest, so the cut
    does not depend on how the text is split into pieces. Work and memory are linear in the text and
    the stops (Aho-Corasick automaton).
    """

    def __init__(self, stops: Iterable[Sequence[Symbol]]) -> None:
        """Take non-empty stops; without any the text passes unchanged."""
        self._next: dict[tuple[int, Symbol], int] = {}
        """From a state, which is a prefix of a stop, to the one that is a symbol longer."""
        self._depth = [0]
        self._shorter = [0]
        """The state of the longest prefix of any stop that is a suffix of a state."""
        self._found = [0]
        """Length of the longest stop that is a suffix of a state; 0 if there is none."""
        self._build(stops)
        self._state = 0
        self._held: list[Symbol] = []
        """Symbols that may begin a stop."""
        self.matched = False
        """Whether a stop was found; from then on no text passes."""
        self.found: tuple[Symbol, ...] = ()
        """The stop that was found."""

    def feed(self, symbols: Iterable[Symbol]) -> str:
        """Add symbols and return the text that is certainly before any stop."""
        if self.matched:
            return ""
        held = self._held
        for symbol in symbols:
            held.append(symbol)
            self._state = self._after(self._state, symbol)
            if length := self._found[self._state]:
                self.matched = True
                self.found = tuple(held[-length:])
                del held[-length:]
                return self._released(len(held))
        return self._released(len(held) - self._depth[self._state])

    def flush(self) -> str:
        """Return the held text, when no more text can complete a stop."""
        self._state = 0
        return self._released(len(self._held))

    def _released(self, count: int) -> str:
        """Return the text of the first held symbols and stop holding them."""
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
