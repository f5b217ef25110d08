"""A command's MODEL argument as its prepared folder, with progress on standard error."""

from pathlib import Path

from pipelines import preparation
from rocmforge.progress import shown
from runtime.settings import Settings


def prepared(
    model: str, settings: Settings, *, name: str | None = None, replace: bool = False
) -> Path:
    """`pipelines.preparation.prepared`, whose steps are shown."""
    with shown() as report:
        return preparation.prepared(
            model, settings, report, report.amount, name=name, replace=replace
        )
