"""A command's MODEL argument as its prepared folder, with progress on standard error."""

from pathlib import Path

from pipelines import preparation
from rocmforge.progress import shown
from runtime.settings import Settings
from runtime.storage.address import Address, is_address
from runtime.storage.pull import pulled


def prepared(
    model: str, settings: Settings, *, name: str | None = None, replace: bool = False
) -> Path:
    """Return the prepared folder of a published name, a GGUF, or a model elsewhere or in a storage.

    As `pipelines.preparation.prepared` and `runtime.storage.pull.pulled`, whose steps are shown.
    """
    with shown() as report:
        if is_address(model):
            return pulled(Address.of(model), settings, report, report.amount, replace=replace)
        return preparation.prepared(
            model, settings, report, report.amount, name=name, replace=replace
        )
