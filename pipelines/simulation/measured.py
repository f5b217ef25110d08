"""The file of measured times: of a model's steps, and of the simulation's own router."""

from pathlib import Path

import msgspec

from pipelines.simulation.step_times import StepTimes, Work
from runtime.errors import InvalidTrace

SAMPLE_MODEL = Path(__file__).parent / "measured" / "sample_model.json"
"""The sample model's, with which the documented runs are made."""


class MeasuredStep(msgspec.Struct, frozen=True):
    """One kind of step: `rows` rows of `tokens` tokens each, from position `start` on."""

    rows: int
    tokens: int
    start: int
    ms: tuple[float, ...]
    """The time of each round."""

    @property
    def work(self) -> Work:
        """What it computes: one row of logits for each row."""
        return Work.of([(self.start, self.tokens, 1)] * self.rows)


class RoutingCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulation's prefix-aware router costs, measured on one processor."""

    processor: str
    hash_us_per_page: float
    """Microseconds to hash a page of a prompt's tokens."""
    choose_us: tuple[tuple[int, float], ...]
    """Numbers of replicas, each with the microseconds to score and choose, without hashing."""
    event_us_per_page: float
    """Microseconds to decode a stored page's event, hash its tokens and take it into the index."""
    index_bytes_per_page: float
    """Bytes of the index for a page that one replica holds."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Where the times of a model's steps were measured, and how well the fit repeats them."""

    model: str
    processor: str
    threads: int
    started_at: str
    """ISO 8601, UTC."""
    others_processor_share: float
    """Share of all processors that went to other programs; much of it spoils every time."""
    times: StepTimes
    typical_error: float
    """Median of |fitted / least measured - 1| over the steps that were measured."""
    largest_error: float
    steps: tuple[MeasuredStep, ...]
    routing: RoutingCost

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """Read a file. Raises InvalidTrace for another one, OSError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.DecodeError as error:
            raise InvalidTrace(
                f"{path} has no measured times; `rocmforge simulate --measure MODEL --save "
                f"FILE.json` writes them: {error}"
            ) from None
