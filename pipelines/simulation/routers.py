"""Routers: which replica gets a request. Each is owned by the simulation's thread."""

import hashlib
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pipelines.simulation.prefix_index import PrefixIndex
from pipelines.simulation.replica import Question
from runtime.page_changes import Changes

POINTS = 100
"""Points of each replica on the ring of consistent hashing."""
PREFIX_WEIGHT, LOAD_WEIGHT = 2.0, 1.0
"""As in deploy/llm-d/picker-kv-events.yaml, which weighs KV use, too."""


class Router(Protocol):
    """Chooses replicas. Loads are the unfinished requests of each, which a proxy counts itself."""

    def choose(self, question: Question, loads: Sequence[int]) -> int:
        """Return the number of the replica that gets a request."""

    def learn(self, replica: int, changes: Changes) -> None:
        """Take in the changes of a replica's pages, after their delay."""


class _Blind:
    """The part of a router that reads no events."""

    def learn(self, replica: int, changes: Changes) -> None:
        """Do nothing."""


class RoundRobin(_Blind):
    """Each replica in turn."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, question: Question, loads: Sequence[int]) -> int:
        """Return the next replica."""
        chosen, self._next = self._next, (self._next + 1) % len(loads)
        return chosen


class LeastQueue(_Blind):
    """The replica with the fewest unfinished requests."""

    def __init__(self) -> None:
        self._turn = _Turn()

    def choose(self, question: Question, loads: Sequence[int]) -> int:
        """Return one of the least loaded replicas, those in turn."""
        least = min(loads)
        return self._turn.of([each for each, load in enumerate(loads) if load == least], len(loads))


class ConsistentHashing(_Blind):
    """The replica of a key: the next point on a ring of hashes, whatever the load."""

    def __init__(self, replicas: int, key: Callable[[Question], str], points: int = POINTS) -> None:
        ring = sorted(
            (_hash(f"{replica}/{point}"), replica)
            for replica in range(replicas)
            for point in range(points)
        )
        self._points = [point for point, _ in ring]
        self._replicas = [replica for _, replica in ring]
        self._key = key

    def choose(self, question: Question, loads: Sequence[int]) -> int:
        """Return the replica of the question's key."""
        return self._replicas[bisect(self._points, _hash(self._key(question))) % len(self._points)]


class PrefixAware:
    """The replica with the best weighted sum of two scores from 0 to 1: known prefix, little load.

    The first is the share of the prompt's full pages that the replica is known to hold. The second
    is 1 for the least loaded replica and 0 for the most loaded one, as the queue scorer of llm-d's
    endpoint picker has it. Pages are known from events, so what was computed a moment ago is not.
    """

    def __init__(
        self,
        page_size: int,
        prefix_weight: float = PREFIX_WEIGHT,
        load_weight: float = LOAD_WEIGHT,
    ) -> None:
        self.index = PrefixIndex()
        self._page_size = page_size
        self._prefix_weight = prefix_weight
        self._load_weight = load_weight
        self._turn = _Turn()

    def choose(self, question: Question, loads: Sequence[int]) -> int:
        """Return one of the replicas with the best score, those in turn."""
        sequence = question.sequence
        sequence.hash_pages(len(sequence.tokens) // self._page_size, self._page_size)
        pages = max(len(sequence.hashes), 1)
        least, most = min(loads), max(loads)
        per_load = self._load_weight / (most - least) if most > least else 0.0
        scores = [per_load * (most - load) for load in loads]
        for replica, held in self.index.matched(sequence.hashes).items():
            scores[replica] += self._prefix_weight * held / pages
        best = max(scores)
        return self._turn.of(
            [each for each, score in enumerate(scores) if score == best], len(loads)
        )

    def learn(self, replica: int, changes: Changes) -> None:
        """Take in the changes of a replica's pages."""
        self.index.update(replica, changes)


ROUND_ROBIN = "round-robin"
LEAST_QUEUE = "least-queue"
CHAT_HASHING = "chat-hashing"
PROMPT_HASHING = "prompt-hashing"
PREFIX_AWARE = "prefix-aware"
ROUTERS = (ROUND_ROBIN, LEAST_QUEUE, CHAT_HASHING, PROMPT_HASHING, PREFIX_AWARE)


def router(
    name: str, replicas: int, page_size: int, prefix_weight: float = PREFIX_WEIGHT
) -> Router:
    """Return a new router by its name in ROUTERS."""
    makers: dict[str, Callable[[], Router]] = {
        ROUND_ROBIN: RoundRobin,
        LEAST_QUEUE: LeastQueue,
        CHAT_HASHING: lambda: ConsistentHashing(replicas, lambda each: f"chat {each.chat}"),
        PROMPT_HASHING: lambda: ConsistentHashing(replicas, lambda each: f"system {each.system}"),
        PREFIX_AWARE: lambda: PrefixAware(page_size, prefix_weight),
    }
    return makers[name]()


class _Turn:
    """Chooses among equals: the first after the one chosen last. Owned by one thread."""

    def __init__(self) -> None:
        self._last = -1

    def of(self, equals: Iterable[int], replicas: int) -> int:
        """Return one of the given replicas."""
        self._last = min(equals, key=lambda each: (each - self._last - 1) % replicas)
        return self._last


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
