"""What runs beside what: the pools of the steps, under the settings that `make dagster` writes."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.daemon import MonitoringDaemon
from dagster._time import get_current_datetime

from pipelines.regression.assets import POOL as BENCHMARK
from runtime.settings import Settings
from tests.models import write_tiny_llama

ROOT = Path(__file__).parents[2]
MODELS, BROKEN = ("first", "second"), "broken"
MEETINGS = 30
pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """As `make dagster` makes it."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.mark.slow
def test_of_files_that_come_at_once_each_waits_and_a_broken_one_ends_with_1(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    settings.incoming_folder.mkdir(parents=True)
    for name in MODELS:
        write_tiny_llama(settings.incoming_folder / f"{name}.gguf")
    (settings.incoming_folder / f"{BROKEN}.gguf").write_bytes(b"GGUF" + bytes(200))
    instance.add_dynamic_partitions("gguf_model", [*MODELS, BROKEN])
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "pipelines.definitions"]
    environment = {
        **os.environ,
        "ROCMFORGE_HOME": str(settings.home),
    }
    runs = [
        subprocess.Popen(
            [*command, "-j", "prepare_model", "--tags", f'{{"dagster/partition": "{name}"}}'],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in (*MODELS, BROKEN)
    ]
    assert [run.wait(timeout=100) for run in runs] == [0, 0, 1]
    busy = []
    for done in instance.get_runs():
        for step in instance.get_run_step_stats(done.run_id):
            if step.step_key != "published_model":
                assert step.start_time is not None
                assert step.end_time is not None
                busy.append((step.start_time, step.end_time))
    assert len(busy) == 3 * len(MODELS) + 1
    assert all(ended <= began for (_, ended), (began, _) in pairwise(sorted(busy)))


def test_of_two_processes_that_ask_at_the_same_moment_one_gets_the_place(
    instance: dg.DagsterInstance,
) -> None:
    processes = multiprocessing.get_context("spawn")
    with processes.Manager() as manager, processes.Pool(2) as asking:
        ask = partial(claims, instance.root_directory, manager.Barrier(2))
        claimed = asking.map(ask, ("one", "other"), chunksize=1)
    assert [sum(pair) for pair in zip(*claimed, strict=True)] == [1] * MEETINGS


def claims(home: str, together: Barrier, run: str) -> list[bool]:
    """Which claims of a run got a place, each made at the same moment as another's."""
    claimed = []
    with dg.DagsterInstance.from_config(home) as instance:
        storage = instance.event_log_storage
        for meeting in range(MEETINGS):
            together.wait(timeout=30)
            storage.initialize_concurrency_limit_to_default(f"pool {meeting}")
            status = storage.claim_concurrency_slot(f"pool {meeting}", run, "step")
            claimed.append(status.is_claimed)
    return claimed


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run that holds the pool of benchmarks."""
    run: dg.DagsterRun = create_run_for_test(
        instance, job_name="some", status=dg.DagsterRunStatus.STARTING
    )
    begun = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name="some")
    instance.report_dagster_event(begun, run.run_id)
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default(BENCHMARK)
    assert storage.claim_concurrency_slot(BENCHMARK, run.run_id, "step").is_claimed
    return run


def look_after(instance: dg.DagsterInstance, later: timedelta) -> None:
    """A look of Dagster's daemon at what runs, so much later."""
    with (
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace,
        freeze_time(get_current_datetime() + later),
    ):
        list(MonitoringDaemon(interval_seconds=1).run_iteration(workspace))


def is_free(instance: dg.DagsterInstance) -> bool:
    return instance.event_log_storage.get_concurrency_info(BENCHMARK).active_slot_count == 0


def test_a_run_that_was_killed_gives_its_pool_back(instance: dg.DagsterInstance) -> None:
    run = started(instance)
    look_after(instance, timedelta(minutes=5))
    assert not is_free(instance)
    # What Dagster reports of a process that is gone; the step itself cannot let go any more.
    instance.report_run_failed(run)
    look_after(instance, timedelta(minutes=5))
    assert is_free(instance)


def test_a_run_that_a_crash_cut_off_fails_after_a_day(
    instance: dg.DagsterInstance,
) -> None:
    run = started(instance)
    look_after(instance, timedelta(hours=25))
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE
    look_after(instance, timedelta(hours=26))
    assert is_free(instance)
