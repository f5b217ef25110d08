"""Defines the measurement of a published model, for Dagster and the command line alike."""

from pathlib import Path

import msgspec

from pipelines.benchmark.intervals import MIN_BLOCKS
from pipelines.benchmark.judge import BASELINE, expect_figures
from pipelines.benchmark.measurement import BLOCK, BLOCKS, Measurement, measure, served_version
from pipelines.benchmark.run import Progress
from pipelines.benchmark.workloads import Plan
from runtime.errors import BenchmarkError, ModelNotFound, SettingsError
from runtime.registry import PublishedModel, Registry
from runtime.settings import Settings

PREVIOUS = "previous"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model, and the one that it is compared with. Immutable."""

    model: str
    version: int
    folder: Path
    """Folder of the version."""
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
    """A published version: by name, by NAME@VERSION, by its GGUF or by its folder; against another.

    `against` is "previous", what was current before that version and this build can serve, if there
    is any; the number of a version; or "baseline", for none. Raises ModelNotFound for a model
    or a version that does not exist, SettingsError for an `against` or a limit that is none, and
    BenchmarkError for what could not be judged.
    """
    expect_judgeable(against, settings, blocks)
    registry = Registry(settings)
    judged = _published(model, registry)
    beside: PublishedModel | None = None
    if against == PREVIOUS:
        beside = registry.previous(judged.name, judged.version)
    elif against != BASELINE:
        beside = registry.version(judged.name, int(against))
    if beside is not None and beside.version == judged.version:
        raise BenchmarkError(
            f"version {judged.version} of {judged.name} cannot be measured beside itself; name "
            f"another version, or {BASELINE} for earlier measurements alone"
        )
    return Task(
        model=judged.name,
        version=judged.version,
        folder=judged.folder,
        beside=None if beside is None else beside.version,
        plan=plan,
        blocks=blocks,
    )


def expect_judgeable(against: str, settings: Settings, blocks: int) -> None:
    """Raise SettingsError or BenchmarkError for what `task_of` takes for no model at all."""
    expect_figures(settings.benchmark_allowed)
    if blocks < MIN_BLOCKS:
        raise BenchmarkError(
            f"{blocks} blocks can judge nothing, since each counts once: take at least "
            f"{MIN_BLOCKS}, as every night {BLOCKS}"
        )
    if against not in (PREVIOUS, BASELINE) and not against.isdecimal():
        raise SettingsError(
            f"a model is judged against {PREVIOUS}, {BASELINE} or the number of a version, "
            f"not against {against!r}"
        )


def _published(model: str, registry: Registry) -> PublishedModel:
    folder = registry.resolve(model).resolve()
    versions = folder.parent
    name = versions.parent.name
    if versions.resolve() != (registry.folder / name / "versions").resolve():
        raise ModelNotFound(
            f"{folder} is not among the published models, so there is nothing to judge it by; "
            "publish its GGUF with `rocmforge prepare`, or measure it without --against"
        )
    return registry.version(name, int(folder.name))
