"""The nightly benchmark through Dagster, with a small model's real servers."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import pytest

from pipelines import benchmark_assets
from pipelines.benchmark import measurement, process, task
from pipelines.benchmark.history import History, Record
from pipelines.benchmark.intervals import MIN_BLOCKS
from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.results import BenchmarkResult
from pipelines.benchmark.task import task_of
from pipelines.conversion.convert import convert
from pipelines.definitions import definitions
from pipelines.resources import ModelPreparation
from pipelines.schedules import GRACE, longest_pause
from rocmforge.__main__ import main
from runtime.errors import BenchmarkError, ModelNotFound, SettingsError
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.models import write_tiny_llama
from tests.pipelines import faulty_benchmark
from tests.pipelines.measurements import measurement as planted_measurement
from tests.waiting import eventually

pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")
ROOT = Path(__file__).parents[2]
DIALOG_PIXELS = 984
"""What the UI's dialog shows of a picture's width in a window of 1280 pixels."""
# As few blocks as can be judged.
CONFIG: dict[str, Any] = {
    "blocks": MIN_BLOCKS,
    "plan": {
        "short_prompt_tokens": 4,
        "short_new_tokens": 8,
        "long_prompt_tokens": 40,
        "long_new_tokens": 8,
        "copied_tokens": 16,
        "stream_counts": [1],
        "stream_prompt_tokens": 8,
        "stream_new_tokens": 8,
        "single_rounds": 1,
        "starts": 1,
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two published versions of a model."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), cache_tokens=1024, threads=1)
    for seed in (1, 2):
        gguf = settings.home / f"small-{seed}.gguf"
        write_tiny_llama(gguf, seed=seed, embedding=256, feed_forward=512)
        publish(gguf, "small", Registry(settings))
    return settings


def publish(gguf: Path, name: str, registry: Registry) -> None:
    """The next version of a model; its checks are another test's."""
    staging = registry.new_staging(name, "test")
    registry.publish(staging, convert(Source(gguf), staging, name))


@pytest.fixture(autouse=True)
def environment(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the definitions find the models."""
    for name in ("home", "threads", "cache_tokens"):
        monkeypatch.setenv(f"ROCMFORGE_{name.upper()}", str(getattr(home, name)))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("gguf_model", ["small"])
        yield instance


@pytest.fixture
def history(home: Settings) -> Iterator[History]:
    """Empty before and after."""
    history = History(home, "small")
    history.path.unlink(missing_ok=True)
    yield history
    history.path.unlink(missing_ok=True)


def benchmark_models(instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    job = definitions().resolve_job_def("benchmark_models")
    return job.execute_in_process(
        instance=instance,
        partition_key="small",
        raise_on_error=False,
        run_config={"ops": {"benchmark_result": {"config": {**CONFIG, **config}}}},
    )


def reason(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data is not None
    return str(failed.step_failure_data.user_failure_data.description)


def servers(home: Settings) -> list[str]:
    """Command lines of the servers of the model that still run."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [line for line in lines if " serve small@" in line and str(home.home) in line]


@pytest.mark.long
def test_a_slowed_version_fails_the_check_and_the_next_good_night_clears_it(
    instance: dg.DagsterInstance, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(process, "FUNCTION", f"{faulty_benchmark.__name__}:slow_the_newest")
        result = benchmark_models(instance)
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert "times worse than version 1" in str(check.description)
    # Measured and shown all the same.
    (slow,) = result.asset_materializations_for_node("benchmark_result")
    assert slow.metadata["streams_1_tokens_per_second"].value

    result = benchmark_models(instance, against="baseline")
    assert result.success, reason(result)
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    assert (check.partition, check.blocking) == ("small", True)
    (good,) = result.asset_materializations_for_node("benchmark_result")
    assert {"trend_of_rates", "trend_of_latencies", "latencies", "throughput"} <= set(good.metadata)
    pictures = {
        name: str(value.md_str)
        for name, value in good.metadata.items()
        if isinstance(value, dg.MarkdownMetadataValue) and "data:image" in str(value.md_str)
    }
    assert pictures["throughput"].startswith("![throughput over streams](data:image/png;base64,")
    for picture in pictures.values():
        png = base64.b64decode(picture.rpartition(",")[2].removesuffix(")"))
        assert int.from_bytes(png[16:20], "big") <= DIALOG_PIXELS
    assert [bool(record.regressed) for record in history.records()] == [True, False]


def test_a_killed_child_is_a_failure_that_leaves_nothing_behind(
    home: Settings,
    instance: dg.DagsterInstance,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "FUNCTION", f"{faulty_benchmark.__name__}:kill_in_the_middle")
    result = benchmark_models(instance, against="baseline")
    assert not result.success
    assert "small could not be measured: the process was killed by SIGKILL" in reason(result)
    assert result.get_asset_check_evaluations() == []
    assert history.records() == []
    eventually(lambda: servers(home) == [], "a server outlived its benchmark")


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_started(
    instance: dg.DagsterInstance,
) -> None:
    result = benchmark_models(instance, plan={"rounds": 3})
    assert "there is no ['rounds']" in reason(result)
    result = benchmark_models(instance, against="9")
    assert "small has no version 9" in reason(result)
    result = benchmark_models(instance, against="2")
    assert "version 2 of small cannot be measured beside itself" in reason(result)
    result = benchmark_models(instance, blocks=MIN_BLOCKS - 1)
    assert f"{MIN_BLOCKS - 1} blocks can judge nothing" in reason(result)
    result = benchmark_models(instance, plan={"stream_counts": []})
    assert "the plan of the benchmark does not fit" in reason(result)


def test_every_night_measures_every_published_model(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCMFORGE_BENCHMARK_CRON", "30 2 * * *")
    repository = definitions().get_repository_def()
    schedule = repository.get_schedule_def("nightly_benchmarks")
    assert schedule.cron_schedule == "30 2 * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    with dg.instance_for_test() as instance:
        # A partition that nothing was published of, and a model that has no partition yet.
        instance.add_dynamic_partitions("gguf_model", ["unpublished"])
        context = dg.build_schedule_context(
            instance,
            scheduled_execution_time=datetime(2026, 1, 2, 2, 30, tzinfo=UTC),
            repository_def=repository,
            resources={"preparation": ModelPreparation()},
        )
        requests = schedule.evaluate_tick(context).run_requests
        assert [request.partition_key for request in requests or ()] == ["small"]
        assert instance.has_dynamic_partition("gguf_model", "small")


def test_a_night_may_be_missed_for_some_hours_before_it_shows() -> None:
    (spec,) = (
        spec
        for spec in definitions().resolve_all_asset_specs()
        if spec.key == dg.AssetKey("benchmark_result")
    )
    allowed = timedelta(hours=24) + GRACE
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=allowed)


def test_a_schedule_that_skips_days_is_waited_for() -> None:
    assert longest_pause("0 3 * * *").total_seconds() == 24 * 3600
    # From Friday to Monday.
    assert longest_pause("0 3 * * 1-5").total_seconds() == 72 * 3600


def test_a_schedule_that_is_none_is_refused_by_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROCMFORGE_BENCHMARK_CRON", "every night")
    with pytest.raises(Exception, match="ROCMFORGE_BENCHMARK_CRON is 'every night'"):
        definitions()


def test_the_command_line_says_what_became_worse_and_exits_with_1(
    history: History, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a measurement that is planted: measuring itself is what the tests above do."""
    slow = planted("2026-01-02T03:00:00+00:00", rate=50.0, version=2).measurement
    monkeypatch.setattr(task.Task, "measure", lambda *told: slow)
    assert main(["bench", "small", "--against", "previous"]) == 1
    assert "times worse than version 1" in capsys.readouterr().err
    assert main(["bench", "small", "--against", "previous", "--accept"]) == 0
    assert "accepted, so this is the usual" in capsys.readouterr().out
    assert [record.accepted for record in history.records()] == [False, True]


def test_what_is_judged_is_found_by_name_by_file_and_by_folder_and_never_beside_itself(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path)
    registry = Registry(settings)
    for seed in (1, 2, 3):
        publish(write_tiny_llama(tmp_path / f"made-{seed}.gguf", seed=seed), "many", registry)

    def versions(model: str | Path, against: str = "previous") -> tuple[str, int, int | None]:
        found = task_of(str(model), against, settings)
        return found.model, found.version, found.beside

    assert versions("many") == ("many", 3, 2)
    assert versions("many@2") == ("many", 2, 1)
    assert versions("many@1") == ("many", 1, None)
    assert versions("many@1", "3") == ("many", 1, 3)
    assert versions("many", "baseline") == ("many", 3, None)
    assert versions(tmp_path / "made-2.gguf") == ("many", 2, 1)
    assert versions(settings.models_folder / "many" / "versions" / "2") == ("many", 2, 1)
    assert versions(settings.models_folder / "many" / "current") == ("many", 3, 2)
    with pytest.raises(BenchmarkError, match="version 3 of many cannot be measured beside itself"):
        versions("many", "3")
    with pytest.raises(SettingsError, match="previous, baseline or the number of a version"):
        versions("many", "abc")
    moved = tmp_path / "outside"
    shutil.copytree(settings.models_folder / "many" / "versions" / "2", moved)
    with pytest.raises(ModelNotFound, match="is not among the published models"):
        versions(moved)
    with pytest.raises(SettingsError, match="names decode, which is no figure"):
        task_of(
            "many", "previous", msgspec.structs.replace(settings, benchmark_allowed={"decode": 2})
        )


def test_two_servers_of_one_name_keep_their_own_samples() -> None:
    def block(ours: float, theirs: float) -> BenchmarkResult:
        found = planted_measurement({"start_seconds": [ours]}, {"start_seconds": [theirs]}).result
        servers = [msgspec.structs.replace(each, name="version 4") for each in found.servers]
        return msgspec.structs.replace(found, servers=tuple(servers))

    both = measurement.joined([block(50.0, 100.0), block(51.0, 101.0)])
    assert [server.figures["start_seconds"] for server in both.servers] == [(50, 51), (100, 101)]


def test_a_check_judges_what_its_own_run_measured(
    instance: dg.DagsterInstance, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal records another measurement between the run's two steps."""
    ours = planted("2026-01-02T03:00:00+00:00", rate=50.0, version=2)
    later = planted("2026-01-02T04:00:00+00:00", rate=100.0, version=1)

    def measured(*arguments: object) -> Measurement:
        return ours.measurement

    shown = benchmark_assets.shown

    def shown_and_overtaken(*arguments: Any) -> Any:
        history.append(later)
        return shown(*arguments)

    monkeypatch.setattr(benchmark_assets, "measure_in_child", measured)
    monkeypatch.setattr(benchmark_assets, "shown", shown_and_overtaken)
    result = benchmark_models(instance)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["version"].value == 2
    assert [record.version for record in history.records()] == [2, 1]


def planted(started_at: str, *, rate: float, version: int) -> Record:
    def figures(rate: float) -> dict[str, list[float]]:
        names = ("streams_1_tokens_per_second", "streams_1_first_token_p50_ms")
        return {"decode_short_tokens_per_second": [rate] * 8} | {name: [9.0] * 8 for name in names}

    found = planted_measurement(
        figures(rate), figures(100.0), stream_counts=(1,), started_at=started_at
    )
    return Record(model="small", version=version, measurement=found)


@pytest.mark.long
def test_benchmarks_of_two_processes_run_one_after_the_other(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "deploy" / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    plan = CONFIG["plan"]
    short = {"blocks": MIN_BLOCKS, "plan": plan, "against": "baseline"}
    config = {"ops": {"benchmark_result": {"config": short}}}
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    arguments = ["job", "execute", "-m", "pipelines.definitions", "-j", "benchmark_models"]
    arguments += ["-c", str(tmp_path / "run.yaml"), "--tags", '{"dagster/partition": "small"}']
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("gguf_model", ["small"])
        # Neither goes through the queue, where runs of the pool would wait for each other.
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "dagster", *arguments],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        assert [run.wait() for run in runs] == [0, 0]
    results = [record.measurement.result for record in history.records()]
    (first, took), (second, _) = sorted(
        (datetime.fromisoformat(result.started_at), result.seconds) for result in results
    )
    # The starts are known to a second.
    assert (second - first).total_seconds() + 1 >= took
