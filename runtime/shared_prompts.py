"""Holds back sequences until the prompt that they share with another one is computed."""

from collections.abc import Iterator

from runtime.sequence import Sequence


class SharedPrompts:
    """Sequences that wait for another one, their leader. Owned by the engine thread.

    They start when the leader's prompt is computed, so that they share its full pages and compute
    only the tokens of the last, partial one.
    """

    def __init__(self) -> None:
        self._leaders: dict[Sequence, Sequence] = {}

    def __len__(self) -> int:
        return len(self._leaders)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._leaders)

    @property
    def leaders(self) -> set[Sequence]:
        """The sequences that others wait for."""
        return set(self._leaders.values())

    def add(self, sequence: Sequence, leader: Sequence) -> None:
        """Let a sequence wait for one with the same prompt."""
        self._leaders[sequence] = leader

    def discard(self, sequence: Sequence) -> bool:
        """Remove a waiting sequence; return whether it was one."""
        return self._leaders.pop(sequence, None) is not None

    def take_ready(self) -> list[Sequence]:
        """Remove and return the sequences whose leader's prompt is computed."""
        ready = [each for each, leader in self._leaders.items() if leader.has_computed_prompt]
        for sequence in ready:
            del self._leaders[sequence]
        return ready

    def take_after(self, leader: Sequence) -> list[Sequence]:
        """Remove and return the sequences that may start when a leader is removed.

        If its prompt is not computed, that is the first of those who wait for it. The others then
        wait for that one.
        """
        if leader.has_computed_prompt:
            return self.take_ready()
        followers = [each for each, other in self._leaders.items() if other is leader]
        for sequence in followers:
            self._leaders[sequence] = followers[0]
        for sequence in followers[:1]:
            del self._leaders[sequence]
        return followers[:1]
