"""The result of a check."""

from dataclasses import dataclass, field

Figures = dict[str, float]
"""Numbers of a check by name."""
Series = dict[str, tuple[float, ...]]
"""Numbers in a row by name: one a position, a layer or a step."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check that passed describes it. Immutable."""

    summary: str
    """One sentence."""
    figures: Figures = field(default_factory=dict)
    series: Series = field(default_factory=dict)


class CheckFailed(Exception):
    """Why a check failed, in one sentence that names the place, and the figures so far.

    measured: the figure that is above a limit, and that may be accepted.
    """

    def __init__(
        self,
        summary: str,
        figures: Figures | None = None,
        series: Series | None = None,
        measured: float | None = None,
    ) -> None:
        super().__init__(summary)
        self.measured = measured
        self.outcome = Outcome(summary, figures or {}, series or {})
