"""A nightly benchmark of every published model, and a warning if a night was missed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import dagster as dg

from pipelines.assets import PARTITIONS, published_name
from pipelines.benchmark.judge import expect_figures
from pipelines.benchmark_assets import benchmark_result, no_regression
from pipelines.kubernetes import gpu_tags
from pipelines.resources import ModelPreparation
from runtime.errors import SettingsError
from runtime.settings import PREFIX, Settings

JOB = "benchmark_models"
TICKS = 50
MINUTE = "%Y-%m-%dT%H:%M"
GRACE = timedelta(hours=6)
"""How long after the schedule's next time a result may still be missing."""


def regression() -> dg.Definitions:
    """Scheduled benchmarks. Raises SettingsError for invalid settings of theirs."""
    settings = Settings.from_environment()
    expect_figures(settings.benchmark_allowed)
    cron = settings.benchmark_cron
    policy = dg.FreshnessPolicy.time_window(fail_window=longest_pause(cron) + GRACE)
    fresh = benchmark_result.map_asset_specs(lambda spec: dg.apply_freshness_policy(spec, policy))
    benchmark_models = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(fresh),
        description="Measure how fast a published model is served, and fail where it became worse.",
        tags=gpu_tags(settings),
    )
    return dg.Definitions(
        assets=[fresh],
        asset_checks=[no_regression],
        jobs=[benchmark_models],
        schedules=[nightly(cron)],
    )


def nightly(cron: str) -> dg.ScheduleDefinition:
    """The schedule of the benchmarks, which runs from the start."""

    @dg.schedule(
        name="nightly_benchmarks",
        job_name=JOB,
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
    """The longest time between two of a schedule's next ticks, looking at `TICKS` of them.

    Raises SettingsError if it is no schedule.
    """
    now = datetime.now(UTC)
    try:
        # Dagster makes a partition of the time from each tick to the next.
        pauses = dg.TimeWindowPartitionsDefinition(
            cron_schedule=cron, start=now, timezone="UTC", fmt=MINUTE, end_offset=TICKS
        )
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"{PREFIX}BENCHMARK_CRON is {cron!r}; it takes five fields, such as 0 3 * * *"
        ) from None
    ticks = [datetime.strptime(key, MINUTE) for key in pauses.get_partition_keys(now)]
    return max(later - earlier for earlier, later in pairwise(ticks))
