"""benchmark_result, downstream of published_model, and the check that nothing became worse."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
from pydantic import Field

from pipelines.assets import (
    GROUP,
    failures_shown,
    gguf_models,
    partition_key,
    published_model,
    published_name,
    rounded,
)
from pipelines.benchmark import record_pictures, record_report
from pipelines.benchmark.bench import judged_measurement
from pipelines.benchmark.figures import Spread
from pipelines.benchmark.history import History, Record
from pipelines.benchmark.intervals import MIN_BLOCKS
from pipelines.benchmark.judge import Verdict
from pipelines.benchmark.measurement import BLOCK, BLOCKS
from pipelines.benchmark.process import measure_in_child
from pipelines.benchmark.report import markdown_table
from pipelines.benchmark.task import PREVIOUS, task_of
from pipelines.benchmark.workloads import Plan
from pipelines.picture_metadata import in_markdown
from pipelines.resources import MACHINE_POOL, ModelPreparation
from runtime.errors import BenchmarkError

MEASURED = "measured"
"""Of a result's metadata: when its measurement began, by which its record is found."""
MAX_MATERIALIZATIONS = 20
"""The newest of a partition that are looked through for a run's own."""


class Benchmarking(dg.Config):
    """Configuration of a benchmark; defaults are those of the nightly run."""

    against: str = Field(
        PREVIOUS, description='Measured beside: "previous", a version\'s number, or "baseline".'
    )
    blocks: int = Field(
        BLOCKS, description=f"Blocks, each with servers of its own; at least {MIN_BLOCKS}."
    )
    plan: dict[str, Any] = Field({}, description="Fields of the plan of a block that differ.")
    accept: bool = Field(
        False, description="Take the result as the usual from now on, however it is judged."
    )

    def plan_of_block(self) -> Plan:
        """Raises BenchmarkError for an unknown field or an invalid value."""
        try:
            unknown = self.plan.keys() - set(Plan.__struct_fields__)
            if unknown:
                raise msgspec.ValidationError(f"there is no {sorted(unknown)}")
            return msgspec.convert({**msgspec.structs.asdict(BLOCK), **self.plan}, Plan)
        except msgspec.ValidationError as error:
            raise BenchmarkError(f"the plan of the benchmark does not fit: {error}") from None


@dg.asset(
    partitions_def=gguf_models,
    group_name=GROUP,
    kinds={"benchmark"},
    deps=[published_model],
    pool=MACHINE_POOL,
)
def benchmark_result(
    context: dg.AssetExecutionContext, config: Benchmarking, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """Speed of the published version, measured against the previous version."""
    settings = preparation.settings
    with failures_shown(), preparation.machine():
        task = task_of(
            published_name(partition_key(context)),
            config.against,
            settings,
            config.plan_of_block(),
            config.blocks,
        )
        measurement = measure_in_child(
            task, settings, lambda title, done, parts: context.log.info(f"{done}/{parts} {title}")
        )
        record = judged_measurement(task, measurement, settings, accepted=config.accept)
        history = History(settings, task.model)
        return dg.MaterializeResult(metadata=shown(record, history.records(), history.path))


@dg.asset_check(asset=benchmark_result, blocking=True, partitions_def=gguf_models)
def no_regression(
    context: dg.AssetCheckExecutionContext, preparation: ModelPreparation
) -> dg.AssetCheckResult:
    """No figure is certainly worse than the version or the nights before, by more than allowed."""
    with failures_shown():
        history = History(preparation.settings, published_name(partition_key(context)))
        record = history.measured_at(measured_in(context))
    return dg.AssetCheckResult(
        passed=not record.regressed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=record_report.summary(record),
        metadata={
            "version": record.version,
            MEASURED: record.measurement.result.started_at,
            "worst": verdict_table(record.regressed or record.verdicts, record),
        },
    )


def measured_in(context: dg.AssetCheckExecutionContext) -> str:
    """Return when this run's measurement began, or the newest one's if the run made none.

    Another measurement may have been recorded since, by a terminal for one. Raises BenchmarkError
    if nothing was materialized.
    """
    found = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=benchmark_result.key, asset_partitions=[partition_key(context)]
        ),
        limit=MAX_MATERIALIZATIONS,
    ).records
    ours = [record for record in found if record.run_id == context.run.run_id]
    for record in [*ours, *found]:
        if record.asset_materialization is not None:
            return str(record.asset_materialization.metadata[MEASURED].value)
    raise BenchmarkError(
        f"nothing was measured of {partition_key(context)}; run benchmark_result first"
    )


def shown(record: Record, records: Sequence[Record], path: Path) -> Mapping[str, Any]:
    """A record as the UI shows it: numbers that it draws, tables and pictures."""
    result = record.measurement.result
    kinds = result.kinds()
    ours = result.servers[0].figures
    groups = {
        "trend_of_rates": [kind for kind in kinds if kind.higher_is_better],
        "trend_of_latencies": [kind for kind in kinds if kind.unit in ("ms", "steps")],
        "trend_of_start_and_memory": [kind for kind in kinds if kind.unit in ("s", "MB")],
    }
    trends = {
        name: in_markdown(record_pictures.trend(records, group), name.replace("_", " "))
        for name, group in groups.items()
        if group
    }
    return {
        "name": record.model,
        MEASURED: result.started_at,
        "version": record.version,
        "verdict": record_report.summary(record),
        # The asset's page is too narrow for the table, the dialog of Markdown is not.
        "verdicts": dg.MetadataValue.md(
            markdown_table(record_report.COLUMNS, record_report.rows(record, record.verdicts))
        ),
        **trends,
        "throughput": in_markdown(record_pictures.throughput(record), "throughput over streams"),
        "latencies": in_markdown(record_pictures.latencies(record), "distribution of latencies"),
        **{kind.name: rounded(Spread.of(ours[kind.name]).median) for kind in kinds},
        "machine_speed": rounded(record.measurement.speed / 1e9),
        "others_processor_share": rounded(result.others_processor_share),
        "minutes": rounded(result.seconds / 60),
        "history": dg.MetadataValue.path(path),
    }


def verdict_table(verdicts: Sequence[Verdict], record: Record) -> dg.TableMetadataValue:
    """Verdicts as the UI shows a table."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(dict(zip(record_report.COLUMNS, row, strict=True)))
            for row in record_report.rows(record, verdicts)
        ],
        schema=dg.TableSchema([dg.TableColumn(name) for name in record_report.COLUMNS]),
    )
