"""Manages the slots of recurrent state: reference counts and snapshots, not the arrays.

Layers without attention carry a state from token to token. The state after a token is one slot of a
pool, over all such layers. A step reads a sequence's state from one slot and writes
states to others: after its last token, after each drafted token (so that a rejected one costs
nothing) and at some ends of pages. The last are snapshots, identified by the hash of the page: a
later sequence with the same beginning continues from there, with the same bits.
"""

from collections import OrderedDict

from runtime.drafts import DRAFTED_STEP
from runtime.pages import PageHash


class StateSlots:
    """Reference counts of slots, and the snapshots among them. Owned by the engine thread.

    A slot is blank, held, a snapshot (known by a hash), or both of the latter. Snapshots take what
    running sequences do not need; the least recently used that is not held is evicted for another.
    """

    def __init__(self, slot_count: int, *, running: int, pages: int) -> None:
        """running: maximum number of sequences at once. pages: maximum number of snapshots."""
        self.slot_count = slot_count
        self.snapshot_count = slot_count - slots_needed(running)
        self.stride = _stride(self.snapshot_count, pages)
        """Pages from one regular snapshot to the next."""
        self._references = [0] * self.slot_count
        self._hashes: list[PageHash | None] = [None] * self.slot_count
        self._known: OrderedDict[PageHash, int] = OrderedDict()
        self._reserved: set[int] = set()
        # A stack, so that little of the pool is ever touched under a light load.
        self._blank = list(range(self.slot_count - 1, -1, -1))

    def take(self) -> int:
        """Return a blank slot with one reference, for a sequence's state or a drafted token's."""
        if not self._blank and not self._evict():
            raise AssertionError("more states are held than sequences run")
        slot = self._blank.pop()
        self._references[slot] = 1
        return slot

    def take_for_snapshot(self) -> int | None:
        """Return a blank slot with one reference that may be published; None if all are in use."""
        if not self._make_room():
            return None
        slot = self.take()
        self._reserved.add(slot)
        return slot

    def is_shared(self, slot: int) -> bool:
        """Whether a held slot may not be written to: it is a snapshot, or others hold it too."""
        return self._hashes[slot] is not None or self._references[slot] > 1

    def knows(self, page_hash: PageHash) -> bool:
        """Whether there is a snapshot of that hash."""
        return page_hash in self._known

    def find(self, page_hash: PageHash) -> int | None:
        """Return the snapshot of a page's hash, with one more reference; None if there is none."""
        slot = self._known.get(page_hash)
        if slot is not None:
            self._known.move_to_end(page_hash)
            self._references[slot] += 1
        return slot

    def publish(self, slot: int, page_hash: PageHash) -> bool:
        """Make a held slot the snapshot of a hash unless it has one; return whether it is now."""
        if self._hashes[slot] == page_hash:
            return True
        if page_hash in self._known or self._hashes[slot] is not None:
            return False
        if slot in self._reserved:
            self._reserved.discard(slot)
        elif not self._make_room():
            return False
        self._hashes[slot] = page_hash
        self._known[page_hash] = slot
        return True

    def release(self, slot: int) -> None:
        """Give back one reference."""
        if self._references[slot] <= 0:
            raise AssertionError(f"state slot {slot} was released more often than it was taken")
        self._references[slot] -= 1
        if self._references[slot] == 0:
            self._reserved.discard(slot)
            if self._hashes[slot] is None:
                self._blank.append(slot)

    def forget(self, page_hash: PageHash) -> None:
        """Make the snapshot of a hash unfindable; sequences that hold it keep it."""
        slot = self._known.pop(page_hash, None)
        if slot is not None:
            self._hashes[slot] = None
            if self._references[slot] == 0:
                self._blank.append(slot)

    def drop(self, page_hash: PageHash) -> None:
        """Forget the snapshot of a hash unless a sequence holds it."""
        slot = self._known.get(page_hash)
        if slot is not None and self._references[slot] == 0:
            self.forget(page_hash)

    def _make_room(self) -> bool:
        """Return whether a slot is free for a snapshot, after evicting the least recently used."""
        return len(self._known) + len(self._reserved) < self.snapshot_count or self._evict()

    def _evict(self) -> bool:
        """Forget the least recently used unheld snapshot; return whether there was one."""
        for page_hash, slot in self._known.items():
            if self._references[slot] == 0:
                self.forget(page_hash)
                return True
        return False

    def check_integrity(self, held: list[int]) -> None:
        """Raise AssertionError unless the references are `held` and every slot is one thing."""
        expected = [0] * self.slot_count
        for slot in held:
            expected[slot] += 1
        if expected != self._references:
            raise AssertionError("references to states differ from what sequences hold")
        idle = [slot for slot in range(self.slot_count) if self._references[slot] == 0]
        if sorted([*self._blank, *(s for s in idle if self._hashes[s] is not None)]) != idle:
            raise AssertionError("blank slots differ from those without references and hashes")
        if {h: s for s, h in enumerate(self._hashes) if h is not None} != self._known:
            raise AssertionError("the index of snapshots differs from the slots' own hashes")


def slots_needed(running: int) -> int:
    """Return the slots for this many running sequences and the drafted tokens of one step."""
    return running + DRAFTED_STEP


def _stride(snapshots: int, pages: int) -> int:
    """Return the pages between regular snapshots, a power of two; they fill at most half."""
    stride = 1
    while snapshots < pages and pages // stride > max(1, snapshots // 2):
        stride *= 2
    return stride
