"""What is to be measured of a published model: the same from Dagster and from the command line."""

from pathlib import Path

import msgspec

from pipelines.benchmark.run import Progress
from pipelines.benchmark.workloads import Plan
from pipelines.regression.judge import BASELINE
from pipelines.regression.measurement import BLOCK, BLOCKS, Measurement, measure, served_version
from runtime.errors import ModelNotFound
from runtime.registry import PublishedModel, Registry
from runtime.settings import Settings

PREVIOUS = "previous"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model, and the one that is measured beside it. Immutable."""

    model: str
    version: int
    folder: Path
    """Where the version stands."""
    beside: int | None
    plan: Plan = BLOCK
    blocks: int = BLOCKS

    def measure(self, settings: Settings, progress: Progress) -> Measurement:
        """Measure it in this process. Raises BenchmarkError where a server cannot be measured."""
        versions = [self.version, *([] if self.beside is None else [self.beside])]
        candidates = [served_version(self.model, version, settings) for version in versions]
        return measure(candidates, self.folder, settings, self.plan, self.blocks, progress)


def task_of(
    model: str, against: str, settings: Settings, plan: Plan = BLOCK, blocks: int = BLOCKS
) -> Task:
    """The current version of a model, or NAME@VERSION, against another.

    `against` is "previous", the version published before, if there is one that this build can
    serve; the number of a version; or "baseline", for none. Raises ModelNotFound for a model or a
    version that does not exist.
    """
    registry = Registry(settings)
    folder = registry.resolve(model)
    name = model.partition("@")[0]
    version = int(folder.name)
    beside: PublishedModel | None = None
    if against == PREVIOUS:
        beside = registry.previous(name)
    elif against.isdecimal():
        beside = registry.version(name, int(against))
    elif against != BASELINE:
        raise ModelNotFound(
            f"{against} is no version of {name}: name a number, {PREVIOUS} or {BASELINE}"
        )
    number = None if beside is None else beside.version
    return Task(model=name, version=version, folder=folder, beside=number, plan=plan, blocks=blocks)
