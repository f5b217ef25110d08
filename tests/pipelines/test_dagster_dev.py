"""Dagster as `make dagster` starts it: its real daemon, web server and code server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests

from pipelines.lost_runs import end_lost_runs
from runtime.registry import Registry
from runtime.settings import Settings
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

ROOT = Path(__file__).parents[2]
LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
TERMINATE = "mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"


class Dagster:
    """A running instance and requests to it."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body: dict[str, Any] = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=body, timeout=SECONDS).json()
        assert "errors" not in answer, answer
        found: dict[str, Any] = answer["data"]
        return found

    def launch(self, job: str, key: str) -> str:
        selector = {
            "repositoryLocationName": "rocmforge",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        tags = [{"key": "dagster/partition", "value": key}]
        params = {"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": {}}
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/server_info", timeout=5).ok
    except requests.RequestException:
        return False


def kill_all(home: Path) -> None:
    """What a power cut does to every process of an instance."""
    wanted = f"DAGSTER_HOME={home}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, PermissionError):
            continue


@contextmanager
def dagster_dev(home: Path, settings: Settings) -> Iterator[Dagster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "ROCMFORGE_HOME": str(settings.home),
        "PYTHONPATH": str(ROOT),
    }
    with (home / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,  # where workspace.yaml is found
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}"))
        yield Dagster(home, f"http://127.0.0.1:{port}")
    finally:
        kill_all(home)
        process.wait(SECONDS)


@pytest.mark.long
def test_runs_take_turns_end_when_told_and_are_ended_after_a_power_cut(
    tmp_path: Path, settings: Settings
) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
    settings.incoming_folder.mkdir(parents=True)
    names = ("first", "second", "third")
    for seed, name in enumerate(names):
        write_tiny_llama(settings.incoming_folder / f"{name}.gguf", seed=seed)
    with dg.DagsterInstance.from_config(str(home)) as instance:

        def status(run_id: str) -> dg.DagsterRunStatus:
            run = instance.get_run_by_id(run_id)
            assert run is not None
            return run.status

        instance.add_dynamic_partitions("gguf_model", list(names))
        with dagster_dev(home, settings) as dagster:
            for name in names[:2]:
                dagster.launch("prepare_model", name)
            registry = Registry(settings)
            # One sensor starts the second half of each; another may find the files as well.
            eventually(lambda: {"first", "second"} <= {each.name for each in registry.models()})
            ended = [each for each in instance.get_run_records() if each.end_time is not None]
            times = sorted((each.start_time or 0.0, each.end_time or 0.0) for each in ended)
            assert len(times) >= 3
            assert all(ended <= began for (_, ended), (began, _) in pairwise(times))

            run = dagster.launch("prepare_model", "third")
            eventually(lambda: status(run) is dg.DagsterRunStatus.STARTED)
            dagster.ask(TERMINATE, run=run)
            eventually(lambda: status(run) is dg.DagsterRunStatus.CANCELED)

            lost = dagster.launch("prepare_model", "third")
            eventually(lambda: status(lost) is dg.DagsterRunStatus.STARTED)
            kill_all(home)
        assert end_lost_runs(instance) == [lost]
        assert status(lost) is dg.DagsterRunStatus.FAILURE
        assert end_lost_runs(instance) == []
        with dagster_dev(home, settings) as dagster:
            run = dagster.launch("prepare_model", "third")
            eventually(lambda: status(run) is dg.DagsterRunStatus.SUCCESS)


def test_a_run_whose_process_is_there_is_left_alone(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    @dg.op
    def look(context: dg.OpExecutionContext) -> None:
        seen.append(end_lost_runs(context.instance))

    @dg.job
    def looking() -> None:
        look()

    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert looking.execute_in_process(instance=instance).success
    assert seen == [[]]
