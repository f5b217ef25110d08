"""The events and pools of a Dagster instance on one machine; see deploy/dagster.yaml."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from dagster._utils.concurrency import ConcurrencyClaimStatus

from runtime.files import locked


class EventLog(SqliteEventLogStorage):
    """Dagster's event log in SQLite, with pools that hold no more steps than they should.

    A place in a pool is looked for and then taken, and SQLite knows no lock of the row between: two
    processes that ask at the same moment may both get the last place, one that asks while another
    gives its place back may wait for ever, and a pool that two make at once has two places. So one
    process at a time has to do with pools. Its state is SQLite's and the lock's, both shared.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "EventLog":
        """Under DAGSTER_HOME, where Dagster itself would put it."""
        folder = Path(config_value["base_dir"]) / "history" / "runs"
        return cls(base_dir=str(folder), inst_data=inst_data)

    @contextmanager
    def _pools(self) -> Iterator[None]:
        with locked(Path(self._base_dir) / ".pools"):
            yield

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Make a pool, as large as the instance says, unless it is there."""
        with self._pools():
            return super().initialize_concurrency_limit_to_default(concurrency_key)

    def set_concurrency_slots(self, concurrency_key: str, num: int) -> None:
        """Give a pool so many places."""
        with self._pools():
            super().set_concurrency_slots(concurrency_key, num)

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> ConcurrencyClaimStatus:
        """Ask for a place of a pool for a step, or for one's turn."""
        with self._pools():
            return super().claim_concurrency_slot(concurrency_key, run_id, step_key, priority)

    def free_concurrency_slots_for_run(self, run_id: str) -> None:
        """Give back what all steps of a run hold or wait for."""
        with self._pools():
            super().free_concurrency_slots_for_run(run_id)

    def free_concurrency_slot_for_step(self, run_id: str, step_key: str) -> None:
        """Give back what a step holds or waits for."""
        with self._pools():
            super().free_concurrency_slot_for_step(run_id, step_key)
