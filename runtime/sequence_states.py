"""Assigns slots of the state pool to sequences: at their start, in each step, at their end."""

from dataclasses import replace

from runtime.interface import NO_SLOT
from runtime.plan import PlannedRow
from runtime.sequence import Sequence
from runtime.states import StateSlots


class SequenceStates:
    """Assigns sequences the slots that their states are read from and written to.

    Owned by the engine thread. A sequence holds the state after its computed tokens; during a step
    also those that its row writes. Snapshots are taken at ends of pages: at regular intervals,
    where prompts diverge, and at the last page of its tokens, from which a chat continues.
    """

    def __init__(self, slots: StateSlots, page_size: int) -> None:
        self._slots = slots
        self._page_size = page_size

    def start(self, sequence: Sequence) -> None:
        """Continue a sequence from the last snapshot within its cached prefix."""
        size = self._page_size
        sequence.shared_until = sequence.published * size
        for pages in range(sequence.computed // size, 0, -1):
            slot = self._slots.find(sequence.hashes[pages - 1])
            if slot is not None:
                sequence.states = {pages * size: slot}
                sequence.computed = pages * size
                return
        sequence.computed = 0

    def planned(self, row: PlannedRow) -> PlannedRow:
        """Return the row with slots for the state at its end and for snapshots before."""
        sequence, slots, size = row.sequence, self._slots, self._page_size
        self._publish(sequence, row.start)
        written: dict[int, int] = {}
        first = (row.start // size + 1) * size
        for position in reversed(range(first, row.end, size)):
            if self._is_wanted(sequence, position) and not self._is_known(sequence, position):
                slot = slots.take_for_snapshot()
                if slot is None:
                    break
                written[position] = slot
        start = sequence.states.get(row.start, NO_SLOT)
        if start == NO_SLOT or slots.is_shared(start):
            written[row.end] = slots.take()
        else:  # no other row reads it
            written[row.end] = sequence.states.pop(row.start)
        sequence.states |= written
        return replace(row, state_start=start, states=written)

    def drafted(self, row: PlannedRow, draft: tuple[int, ...]) -> PlannedRow:
        """Return the row with drafted tokens, and a slot for the state after each of them."""
        positions = range(row.end + 1, row.end + len(draft) + 1)
        guessed = {position: self._slots.take() for position in positions}
        row.sequence.states |= guessed
        return replace(row, draft=draft, states={**row.states, **guessed})

    def committed(self, sequence: Sequence) -> None:
        """Publish the snapshots of a step and release all states before its last."""
        for position in sorted(sequence.states):
            if position <= sequence.computed:
                self._publish(sequence, position)
            if position < sequence.computed:
                self._slots.release(sequence.states.pop(position))

    def settled(self, sequence: Sequence) -> None:
        """Release all states but the one after the accepted drafted tokens."""
        for position in [each for each in sequence.states if each != sequence.computed]:
            self._slots.release(sequence.states.pop(position))

    def stopped(self, sequence: Sequence) -> None:
        """Release every slot of a sequence."""
        for slot in sequence.states.values():
            self._slots.release(slot)
        sequence.states = {}

    def forget(self, sequence: Sequence) -> None:
        """Make the snapshots of a sequence's tokens unfindable."""
        for page_hash in sequence.hashes:
            self._slots.forget(page_hash)

    def check_integrity(self, running: list[Sequence]) -> None:
        """Raise AssertionError unless slots and sequences agree."""
        self._slots.check_integrity([slot for each in running for slot in each.states.values()])
        if any(each.computed and each.computed not in each.states for each in running):
            raise AssertionError("a running sequence lacks the state that it continues from")

    def _publish(self, sequence: Sequence, position: int) -> None:
        """Make the state after this many tokens a snapshot, if one is wanted."""
        pages, rest = divmod(position, self._page_size)
        if rest or not pages or not self._is_wanted(sequence, position):
            return
        sequence.hash_pages(pages, self._page_size)
        page_hash = sequence.hashes[pages - 1]
        is_new = self._slots.publish(sequence.states[position], page_hash)
        if is_new and position > sequence.prompt_length and page_hash != sequence.tail:
            if sequence.tail is not None:
                self._slots.drop(sequence.tail)
            sequence.tail = None if self._is_regular(position) else page_hash

    def _is_wanted(self, sequence: Sequence, position: int) -> bool:
        is_last = position >= len(sequence.tokens) - self._page_size
        return is_last or self._is_regular(position) or position == sequence.shared_until

    def _is_regular(self, position: int) -> bool:
        return position // self._page_size % self._slots.stride == 0

    def _is_known(self, sequence: Sequence, position: int) -> bool:
        pages = position // self._page_size
        return pages <= len(sequence.hashes) and self._slots.knows(sequence.hashes[pages - 1])
