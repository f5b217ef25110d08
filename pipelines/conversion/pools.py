"""The memory that a graph's layers write one after the other: pages, and states."""

from runtime.interface import ROW_STARTS, STATE_SLOTS, STATE_STARTS, layer_pool


class Pool:
    """The names that a pool has on its way through the graph. Used by one thread for one model."""

    def __init__(self, first: str, last: str, *, writers: int) -> None:
        """`first` and `last` are the graph's input and output, `writers` the nodes that write."""
        self.written = 0
        """Nodes that have written it so far."""
        self._first = self._current = first
        self._last = last
        self._writers = writers

    def written_by(self, writer: str) -> tuple[str, str]:
        """Return the pool's names before and after the next node that writes it."""
        before = self._current
        self.written += 1
        is_last = self.written == self._writers
        self._current = self._last if is_last else layer_pool(self._first, writer)
        return before, self._current


class States:
    """Layout of the states of recurrent operators. Used by one thread for one model."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._values = 0

    def next(self, writer: str, values: int) -> tuple[dict[str, str], dict[str, str], int]:
        """Inputs, outputs and offset of an operator with a state of that many values."""
        before, after = self._pool.written_by(writer)
        inputs = {
            "row_starts": ROW_STARTS,
            "state_starts": STATE_STARTS,
            "state_slots": STATE_SLOTS,
            "states": before,
        }
        offset = self._values
        self._values += values
        return inputs, {"states_written": after}, offset
