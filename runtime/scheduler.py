"""Decides which tokens the next step computes: requests and pages in, a StepPlan out.

There is no prefill or decode mode. A sequence has tokens and a count of those already computed;
each step lets the counts catch up, within one token budget. Long prompts are cut into chunks, new
requests join running ones, a cached prefix starts with its pages already computed, and a preempted
sequence is simply behind again: all of it is the same step.

Prompts are computed first, because their clients see nothing yet, but only as long as `patience`
allows, because the clients of generating requests are reading. A burst of short prompts is over
after a pause or two, and then all answers continue together in full steps. Next to a long prompt
there is a token after each pause; with little patience there is one in every step, next to a small
chunk.
"""

from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

from runtime.drafts import DRAFTED_STEP, FORCED_STEP, MAX_DRAFT
from runtime.page_changes import FoundPage, PageChanges
from runtime.page_tiers import PageTiers
from runtime.pages import ROOT_HASH, PageManager
from runtime.plan import PlannedRow, StepPlan
from runtime.prefix_fetches import PrefixFetches
from runtime.sequence import Sequence
from runtime.sequence_states import SequenceStates
from runtime.shared_prompts import SharedPrompts
from runtime.statistics import SchedulerCounts
from runtime.step import PROMPT_LOGITS

MIN_CHUNK = 16
"""Prompt tokens in a step even without patience left; fewer take no less time."""


class Scheduler:
    """Waiting and running sequences, first come first served. Owned by the engine thread.

    token_budget: maximum tokens per step. max_running: maximum number of running sequences. A
    sequence must fit into the pool alone (the engine ensures it), so the oldest always progresses.
    states: the states of sequences, in a model with recurrent layers. changes: gets the pages that
    become findable. tiers: where pages are kept beyond the pool.
    """

    def __init__(
        self,
        pages: PageManager,
        *,
        token_budget: int,
        max_running: int,
        states: SequenceStates | None = None,
        changes: PageChanges | None = None,
        tiers: PageTiers | None = None,
    ) -> None:
        self._pages = pages
        self._tiers = tiers
        self._fetches = None if tiers is None else PrefixFetches(pages, tiers, self._publish)
        self._states = states
        self._changes = changes
        self._token_budget = token_budget
        self._max_running = max_running
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self._sharing = SharedPrompts()
        self._scoring: set[Sequence] = set()
        """Sequences with a prompt whose logits are needed."""
        self._logits_left = PROMPT_LOGITS
        """Number of them that the step being planned may still take."""
        self.counts = SchedulerCounts()

    @property
    def running_count(self) -> int:
        """Number of sequences that hold pages."""
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        """Number of sequences that do not run, new or preempted."""
        return len(self._waiting) + len(self._sharing) + len(self._fetches or ())

    @property
    def fetching(self) -> bool:
        """Whether sequences wait for pages from beyond the pool."""
        return bool(self._fetches)

    @property
    def awaits_pages(self) -> bool:
        """Whether sequences wait for pages from beyond the pool, of which none has come."""
        return self._fetches is not None and self._fetches.awaits

    def sequences(self) -> Iterator[Sequence]:
        """Iterate over all sequences that were not removed, running ones first."""
        return chain(self._running, self._waiting, self._sharing, self._fetches or ())

    def add(self, sequence: Sequence, after: Sequence | None = None) -> None:
        """Add a new sequence to the waiting ones.

        after: another one with the same prompt, which is to be computed first.
        """
        if sequence.to_score:
            self._scoring.add(sequence)
        if after is None:
            self._waiting.append(sequence)
        else:
            self._sharing.add(sequence, after)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence, waiting or running; its pages are free at once."""
        self._scoring.discard(sequence)
        if self._sharing:
            self._waiting.extendleft(reversed(self._sharing.take_after(sequence)))
        if sequence.running:
            self._stop(sequence)
        elif not self._sharing.discard(sequence) and not (
            self._fetches and self._fetches.discard(sequence)
        ):
            self._waiting.remove(sequence)

    def plan(self, patience: int = 0) -> StepPlan | None:
        """Plan the next step and allocate its pages; None if nothing waits or runs.

        patience: prompt tokens for which generating sequences may be left out. They are left out
        if a full budget of prompts waits and patience covers it. Otherwise they come first, and
        prompts get the rest of the budget, within the patience.
        """
        if self._sharing:
            self._waiting.extendleft(reversed(self._sharing.take_ready()))
        if self._tiers is not None:
            self._tiers.begin_step()
        if self._fetches:
            self._waiting.extendleft(reversed(self._fetches.take_ready(len(self._running))))
        self._logits_left = PROMPT_LOGITS
        rows: dict[Sequence, PlannedRow] = {}
        generating = [s for s in self._running if s.remaining == 1]
        behind = [s for s in self._running if s.remaining > 1]
        budget = self._token_budget
        if not generating:
            self._admit_within(self._extend(rows, behind, budget), rows)
        elif patience > budget and self._tokens_behind(budget) >= budget:
            left = self._admit_within(self._extend(rows, behind, budget), rows)
            if rows and left < len(generating):
                return self._made(tuple(rows.values()), pauses=True)
            # There were no pages for the waiting prompts.
            self._extend(rows, generating, left)
        else:
            left = self._extend(rows, generating, budget)
            chunk = min(left, max(patience, MIN_CHUNK))
            self._admit_within(self._extend(rows, behind, chunk), rows)
        return self._made(self._drafted(rows)) if rows else None

    def _made(self, rows: tuple[PlannedRow, ...], *, pauses: bool = False) -> StepPlan:
        """Return the plan of these rows, with the prompt positions whose logits are needed."""
        scored: tuple[tuple[PlannedRow, range], ...] = ()
        if self._scoring:
            unscored = [(row, _unscored(row.sequence, row.start, row.count)) for row in rows]
            scored = tuple((row, positions) for row, positions in unscored if positions)
        return StepPlan(rows, pauses, scored)

    def _taken(self, sequence: Sequence, budget: int) -> int:
        """Return how many of a sequence's tokens are computed next, within the budget.

        A prompt whose logits are needed goes in small chunks, and waits while others have them.
        """
        count = min(sequence.remaining, budget)
        if sequence in self._scoring:
            unscored = max(sequence.scored - sequence.computed, 0)  # needed no more
            if sequence.computed < sequence.to_score:
                count = min(count, unscored + self._logits_left)
            self._logits_left -= len(_unscored(sequence, sequence.computed, count))
        return count

    def _tokens_behind(self, enough: int) -> int:
        """Count the prompt tokens that could be computed now, up to `enough`."""
        free_slots = self._max_running - len(self._running)
        count = 0
        for sequence in chain(self._running, islice(self._waiting, free_slots)):
            if sequence.remaining > 1 or not sequence.running:
                count += sequence.remaining
                if count >= enough:
                    break
        return count

    def _extend(
        self, rows: dict[Sequence, PlannedRow], sequences: Iterable[Sequence], budget: int
    ) -> int:
        """Add rows of running sequences within the budget; return what is left of it."""
        for sequence in sequences:
            if budget == 0:
                break
            if not sequence.running:
                continue
            count = min(sequence.remaining, budget)
            if self._scoring and (count := self._taken(sequence, budget)) == 0:
                continue
            for victim in self._reserve(sequence, count):
                if (lost := rows.pop(victim, None)) is not None:
                    budget += lost.count
            if sequence.running:
                rows[sequence] = self._row(sequence, count)
                budget -= count
        return budget

    def _admit_within(self, budget: int, rows: dict[Sequence, PlannedRow]) -> int:
        """Add rows of waiting sequences while pages are free; return what is left of the budget."""
        while budget > 0 and self._waiting and len(self._running) < self._max_running:
            sequence = self._waiting[0]
            if sequence in self._scoring and not self._logits_left:
                break
            if self._fetches is not None and self._fetches.begin(sequence):
                self._waiting.popleft()
                continue
            if not self._admit(sequence):
                break
            count = self._taken(sequence, budget)
            rows[sequence] = self._row(sequence, count)
            budget -= count
        return budget

    def commit(self, plan: StepPlan, unsound: Container[Sequence] = ()) -> None:
        """Count the plan's tokens as computed and make the pages they filled findable.

        unsound: sequences with wrong logits. Their pages, and the cached pages they used, can no
        longer be found: one of them may hold the cause.
        """
        size = self._pages.page_size
        for row in plan.rows:
            sequence = row.sequence
            sequence.computed = row.start + row.count
            if sequence in unsound:
                self._pages.forget(sequence.pages)
                if self._tiers is not None:
                    sequence.hash_pages(sequence.computed // size, size)
                    self._tiers.forget(sequence.hashes)
                if self._states is not None:
                    self._states.forget(sequence)
                continue
            sequence.hash_pages(sequence.computed // size, size)
            while sequence.published < sequence.computed // size:
                index = sequence.published
                is_of_prompt = (index + 1) * size <= sequence.prompt_length
                if self._publish(sequence, index) and is_of_prompt and self._tiers is not None:
                    self._tiers.keep(sequence.pages[index], sequence.hashes[index])
                sequence.published += 1
            if self._states is not None:
                self._states.committed(sequence)

    def _publish(self, sequence: Sequence, index: int) -> bool:
        """Make a full page of a sequence findable; return whether it is this one that is found."""
        page_hash, size = sequence.hashes[index], self._pages.page_size
        is_new = self._pages.publish(sequence.pages[index], page_hash)
        if is_new and self._changes is not None:
            parent = sequence.hashes[index - 1] if index else None
            tokens = sequence.tokens[index * size : (index + 1) * size]
            salt = ROOT_HASH if index else sequence.root
            self._changes.stored(page_hash, FoundPage.of(parent, tokens, salt))
        return is_new

    def settle(self, row: PlannedRow, held: int) -> None:
        """Count the first `held` drafted tokens of a row as computed tokens of its sequence."""
        row.sequence.computed += held
        self.counts.drafted_tokens += len(row.draft)
        self.counts.accepted_draft_tokens += held
        if self._states is not None:
            self._states.settled(row.sequence)
        if row.draft and row.sequence.drafts is not None:
            row.sequence.drafts.settle(len(row.draft), held)

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages and sequences agree."""
        fetching = list(self._fetches or ())
        self._pages.check_integrity(sequence.pages for sequence in (*self._running, *fetching))
        if self._states is not None:
            self._states.check_integrity(self._running)
        if any(s.pages or s.computed for s in chain(self._waiting, self._sharing)):
            raise AssertionError("a waiting sequence holds pages")
        if not self._sharing.leaders <= {*self._running, *self._waiting, *fetching}:
            raise AssertionError("a sequence waits for one that is gone")

    def _drafted(self, rows: dict[Sequence, PlannedRow]) -> tuple[PlannedRow, ...]:
        """Return the rows, with drafts if the step is so small that they cost little.

        Drafts delay no first token, and never take a new page: they fill only the free slots of the
        last one. Steps may be larger for tokens that a grammar forces, but not where each token
        takes a slot for a state.
        """
        count = sum(row.count for row in rows.values())
        room = DRAFTED_STEP - count
        room_of_forced = FORCED_STEP - count if self._states is None else room
        drafted = []
        for sequence, row in rows.items():
            generates = row.samples and len(sequence.tokens) > sequence.prompt_length
            if room_of_forced > 0 and generates:
                slots = len(sequence.pages) * self._pages.page_size - row.end
                draft = sequence.draft(min(room, slots), min(room_of_forced, slots, MAX_DRAFT))
                if self._states is not None:
                    row = self._states.drafted(row, draft)
                elif draft:
                    row = replace(row, draft=draft)
                room -= len(draft)
                room_of_forced -= len(draft)
            drafted.append(row)
        return tuple(drafted)

    def _row(self, sequence: Sequence, count: int) -> PlannedRow:
        row = PlannedRow(
            sequence=sequence,
            start=sequence.computed,
            count=count,
            samples=count == sequence.remaining and sequence.generates,
        )
        return row if self._states is None else self._states.planned(row)

    def _reserve(self, sequence: Sequence, count: int) -> list[Sequence]:
        """Get pages for `count` more tokens, preempting the youngest if necessary.

        Returns the preempted sequences, which include `sequence` if it is the youngest.
        """
        lacking = self._pages.pages_for(sequence.computed + count) - len(sequence.pages)
        victims = []
        while (pages := self._pages.allocate(max(lacking, 0))) is None:
            if self._fetches and self._fetches.give_way():
                continue
            victim = self._running[-1]
            self._stop(victim)
            self._waiting.appendleft(victim)
            self.counts.preemptions += 1
            victims.append(victim)
            if victim is sequence:
                return victims
        sequence.pages.extend(pages)
        return victims

    def _admit(self, sequence: Sequence) -> bool:
        """Start the first waiting sequence, with pages for all its tokens, if there are enough.

        Cached pages are shared, the others new. One page is left for each running sequence, so that
        none is preempted at once.
        """
        size = self._pages.page_size
        whole = len(sequence.tokens) // size
        sequence.hash_pages(whole, size)
        known = self._pages.match_prefix(sequence.hashes[:whole])
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
        sequence.published = len(known)
        # The last token is always computed, because its logits are needed. If its page is cached,
        # the same bits are written to it again.
        sequence.computed = min(len(known) * size, len(sequence.tokens) - 1)
        if sequence.scored < sequence.to_score:
            # What is cached has no logits, so it is computed again.
            sequence.computed = min(sequence.computed, sequence.scored)
        if self._states is not None:
            self._states.start(sequence)
        if self._tiers is not None:
            self._tiers.used(sequence.hashes[: len(known)])
        sequence.prefix_hits = sequence.computed
        sequence.running = True
        self.counts.prefix_queried_tokens += len(sequence.tokens)
        self.counts.prefix_hit_tokens += sequence.prefix_hits
        self._waiting.popleft()
        self._running.append(sequence)
        return True

    def _stop(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pages.release(sequence.pages)
        sequence.pages = []
        if self._states is not None:
            self._states.stopped(sequence)
        sequence.computed = sequence.published = 0
        sequence.running = sequence.sought = False


def _unscored(sequence: Sequence, start: int, count: int) -> range:
    """Return the positions among `count` from `start` on whose logits are still needed."""
    return range(max(start, sequence.scored), min(start + count, sequence.to_score))
