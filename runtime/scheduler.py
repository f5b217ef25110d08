"""Which tokens are computed next: requests and pages in, an immutable StepPlan out.

There is no prefill and no decode mode. A sequence has tokens and a count of those already computed;
each step lets the counts catch up, under one token budget. Long prompts are cut into chunks, new
requests join running ones, a known prefix starts with its pages already computed, and a sequence
that lost its pages is simply behind again: all of it is the same step.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from runtime.pages import ROOT_HASH, PageHash, PageManager, chain_hash
from runtime.step import StepInputs


class Sequence:
    """Tokens of one request and how far they are computed. Owned by the engine thread."""

    __slots__ = ("computed", "hashes", "pages", "prefix_hits", "request_id", "running", "tokens")

    def __init__(self, request_id: int, tokens: list[int]) -> None:
        self.request_id = request_id
        self.tokens = tokens
        self.computed = 0
        self.running = False
        self.pages: list[int] = []
        self.hashes: list[PageHash] = []
        self.prefix_hits = 0
        """Tokens whose keys and values were found in known pages at the last start."""

    @property
    def remaining(self) -> int:
        """Tokens that are not computed yet."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One sequence's share of a step: `count` tokens from its position `start` on."""

    sequence: Sequence
    start: int
    count: int
    samples: bool
    """Whether the row reaches the sequence's end, so that its logits give the next token."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step computes. Immutable."""

    rows: tuple[PlannedRow, ...]

    @property
    def sampled(self) -> tuple[Sequence, ...]:
        """The sequences that get a token, in the order of the logits."""
        return tuple(row.sequence for row in self.rows if row.samples)

    @property
    def token_count(self) -> int:
        """Tokens of the step over all rows."""
        return sum(row.count for row in self.rows)

    def inputs(self) -> StepInputs:
        """The step's arrays. The page table is as wide as the longest row needs."""
        rows = self.rows
        counts = [row.count for row in rows]
        row_starts = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(counts, out=row_starts[1:])
        page_table = np.zeros((len(rows), max(len(row.sequence.pages) for row in rows)), np.int32)
        for index, row in enumerate(rows):
            page_table[index, : len(row.sequence.pages)] = row.sequence.pages
        spans = [(row.start, row.start + row.count) for row in rows]
        return StepInputs(
            token_ids=np.fromiter(
                chain.from_iterable(
                    row.sequence.tokens[start:end]
                    for row, (start, end) in zip(rows, spans, strict=True)
                ),
                dtype=np.int32,
                count=int(row_starts[-1]),
            ),
            positions=np.fromiter(
                chain.from_iterable(range(start, end) for start, end in spans),
                dtype=np.int32,
                count=int(row_starts[-1]),
            ),
            row_starts=row_starts,
            page_table=page_table,
            logit_rows=np.array(
                [end - 1 for row, end in zip(rows, row_starts[1:], strict=True) if row.samples],
                dtype=np.int32,
            ),
        )


class Scheduler:
    """Waiting and running sequences, first come first served. Owned by the engine thread.

    token_budget: most tokens a step. max_running: most sequences side by side. A sequence must fit
    into the pool alone (the engine clamps requests so); then the oldest always gets on.
    """

    def __init__(self, pages: PageManager, *, token_budget: int, max_running: int) -> None:
        self._pages = pages
        self._token_budget = token_budget
        self._max_running = max_running
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self.preemptions = 0
        self.prefix_hit_tokens = 0

    @property
    def running_count(self) -> int:
        """Sequences that hold pages."""
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        """Sequences that wait for their first or their next turn."""
        return len(self._waiting)

    def sequences(self) -> Iterator[Sequence]:
        """Every sequence that has not been removed, running ones first."""
        return chain(self._running, self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its turn."""
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence wherever it stands; its pages are free at once."""
        if sequence.running:
            self._stop(sequence)
        else:
            self._waiting.remove(sequence)

    def plan(self) -> StepPlan | None:
        """The next step, its pages allocated; None where nothing waits or runs.

        Sequences that only lack one token come first, so that a long prompt in chunks never holds
        up those that are generating.
        """
        rows: dict[Sequence, PlannedRow] = {}
        budget = self._token_budget
        for sequence in sorted(self._running, key=lambda s: s.remaining > 1):
            if budget == 0:
                break
            if not sequence.running:
                continue
            count = min(sequence.remaining, budget)
            for victim in self._reserve(sequence, count):
                if (lost := rows.pop(victim, None)) is not None:
                    budget += lost.count
            if sequence.running:
                rows[sequence] = self._row(sequence, count)
                budget -= count
        while budget > 0 and self._waiting and len(self._running) < self._max_running:
            sequence = self._waiting[0]
            if not self._admit(sequence):
                break
            count = min(sequence.remaining, budget)
            rows[sequence] = self._row(sequence, count)
            budget -= count
        return StepPlan(rows=tuple(rows.values())) if rows else None

    def commit(self, plan: StepPlan) -> None:
        """Count the plan's tokens as computed and make the pages they filled findable."""
        size = self._pages.page_size
        for row in plan.rows:
            sequence = row.sequence
            sequence.computed = row.start + row.count
            for index in range(len(sequence.hashes), sequence.computed // size):
                self._extend_hashes(sequence, index)
            for index in range(row.start // size, sequence.computed // size):
                self._pages.publish(sequence.pages[index], sequence.hashes[index])

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages and sequences agree."""
        self._pages.check_integrity(sequence.pages for sequence in self._running)
        if any(sequence.pages or sequence.computed for sequence in self._waiting):
            raise AssertionError("a waiting sequence holds pages")

    def _row(self, sequence: Sequence, count: int) -> PlannedRow:
        return PlannedRow(
            sequence=sequence,
            start=sequence.computed,
            count=count,
            samples=count == sequence.remaining,
        )

    def _reserve(self, sequence: Sequence, count: int) -> list[Sequence]:
        """Get pages for `count` more tokens, preempting the youngest if need be.

        Returns the preempted; `sequence` itself is among them where it is the youngest.
        """
        lacking = self._pages.pages_for(sequence.computed + count) - len(sequence.pages)
        victims = []
        while (pages := self._pages.allocate(max(lacking, 0))) is None:
            victim = self._running[-1]
            self._stop(victim)
            self._waiting.appendleft(victim)
            self.preemptions += 1
            victims.append(victim)
            if victim is sequence:
                return victims
        sequence.pages.extend(pages)
        return victims

    def _admit(self, sequence: Sequence) -> bool:
        """Start the first waiting sequence, with the pages of all its tokens, if there are enough.

        Known pages are shared, the others new. One page more is left for each sequence that runs,
        lest one be preempted at once.
        """
        size = self._pages.page_size
        # The last token is always computed: its logits are what the request waits for.
        reusable = (len(sequence.tokens) - 1) // size
        for index in range(len(sequence.hashes), reusable):
            self._extend_hashes(sequence, index)
        known = self._pages.match_prefix(sequence.hashes[:reusable])
        lacking = self._pages.pages_for(len(sequence.tokens)) - len(known)
        fresh = (
            self._pages.allocate(lacking)
            if lacking + len(self._running) <= self._pages.free_count
            else None
        )
        if fresh is None:
            self._pages.release(known)
            return False
        sequence.pages = known + fresh
        sequence.computed = sequence.prefix_hits = len(known) * size
        sequence.running = True
        self.prefix_hit_tokens += sequence.prefix_hits
        self._waiting.popleft()
        self._running.append(sequence)
        return True

    def _stop(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pages.release(sequence.pages)
        sequence.pages = []
        sequence.computed = 0
        sequence.running = False

    def _extend_hashes(self, sequence: Sequence, index: int) -> None:
        size = self._pages.page_size
        parent = sequence.hashes[-1] if sequence.hashes else ROOT_HASH
        filled = sequence.tokens[index * size : (index + 1) * size]
        sequence.hashes.append(chain_hash(parent, filled))
