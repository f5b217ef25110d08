"""Every night a benchmark of every published model, and a warning where a night was missed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)
from dagster._utils.schedules import cron_string_iterator, is_valid_cron_schedule

from pipelines.assets import PARTITIONS
from pipelines.kubernetes import gpu_tags
from pipelines.regression.assets import benchmark_result, no_regression, published_name
from pipelines.regression.judge import expect_figures
from pipelines.resources import ModelPreparation
from runtime.errors import SettingsError
from runtime.settings import PREFIX, Settings

TICKS = 50
"""So many are looked at for the longest pause between two."""
GRACE = timedelta(hours=6)
"""How long after the schedule's next time a result may still be missing."""


def regression() -> dg.Definitions:
    """Benchmarks by schedule. Raises SettingsError where a setting of theirs is none."""
    settings = Settings.from_environment()
    expect_figures(settings.benchmark_allowed)
    cron = settings.benchmark_cron
    if not is_valid_cron_schedule(cron):
        raise SettingsError(
            f"{PREFIX}BENCHMARK_CRON is {cron!r}; it takes five fields, such as 0 3 * * *"
        )
    policy = dg.FreshnessPolicy.time_window(fail_window=longest_pause(cron) + GRACE)
    fresh = benchmark_result.map_asset_specs(lambda spec: dg.apply_freshness_policy(spec, policy))
    benchmark_models = dg.define_asset_job(
        "benchmark_models",
        selection=dg.AssetSelection.assets(fresh),
        description="Measure how fast a published model is served, and fail where it became worse.",
        tags=gpu_tags(settings),
    )
    return dg.Definitions(
        assets=[fresh],
        asset_checks=[no_regression],
        jobs=[benchmark_models],
        schedules=[nightly(cron, benchmark_models)],
    )


def nightly(cron: str, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """The schedule of the benchmarks, which runs from the start."""

    @dg.schedule(
        name="nightly_benchmarks",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Measures every published model, one after the other.",
    )
    def nightly_benchmarks(
        context: dg.ScheduleEvaluationContext, preparation: ModelPreparation
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        models = sorted(model.name for model in preparation.registry.models())
        if not models:
            yield dg.SkipReason(f"no model is published in {preparation.settings.models_folder}")
        for key in partitions_of(models, context.instance):
            tick = context.scheduled_execution_time.isoformat()
            yield dg.RunRequest(run_key=f"{tick} {key}", partition_key=key)

    return nightly_benchmarks


def partitions_of(models: list[str], instance: dg.DagsterInstance) -> list[str]:
    """The partition of each published model; one that was published elsewhere gets its own."""
    known = instance.get_dynamic_partitions(PARTITIONS)
    named = {published_name(key): key for key in known}
    new = [model for model in models if model not in named]
    if new:
        instance.add_dynamic_partitions(PARTITIONS, new)
    return [named.get(model, model) for model in models]


def longest_pause(cron: str) -> timedelta:
    """The longest time between two of a schedule's next ticks."""
    ticks: Iterator[datetime] = cron_string_iterator(datetime.now(UTC).timestamp(), cron, "UTC")
    return max(later - earlier for earlier, later in pairwise(islice(ticks, TICKS)))
