"""The instances of deploy/: loaded as they are, on a real PostgreSQL and a Kubernetes API."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from pipelines.definitions import definitions
from pipelines.kubernetes import gpu_tags
from runtime.settings import Settings
from tests.models import write_tiny_llama

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")


def postgres_programs() -> Path | None:
    """The folder of Debian's newest PostgreSQL server, or that of the PATH."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found := shutil.which("initdb"):
        folders.append(Path(found).parent)
    return max(folders, default=None, key=str)


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL of the tests' own; its user and its database are `postgres`."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    as_root = os.geteuid() == 0
    if as_root and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    user = ["runuser", "-u", "nobody", "--"] if as_root else []
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        if as_root:
            shutil.chown(folder, "nobody")
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        data = f"{folder}/data"

        def call(program: str, *arguments: str) -> None:
            command = [*user, str(programs / program), *arguments]
            subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

        call("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off"
        options += f" -c unix_socket_directories={folder}"
        call("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield port
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.mark.slow
def test_a_model_is_prepared_with_its_history_in_postgresql(
    postgres: int, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "DAGSTER_POSTGRES_URL", f"postgresql+psycopg2://postgres@127.0.0.1:{postgres}/postgres"
    )
    monkeypatch.setenv("ROCMFORGE_HOME", str(settings.home))
    settings.incoming_folder.mkdir(parents=True)
    write_tiny_llama(settings.incoming_folder / "tiny.gguf")
    shutil.copy(DEPLOY / "dagster-postgres.yaml", tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("gguf_model", ["tiny"])
        for name in ("prepare_model", "publish_model"):
            job = definitions().resolve_job_def(name)
            assert job.execute_in_process(instance=instance, partition_key="tiny").success
    # Another process would find all of it, with nothing but the address.
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        runs = instance.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        event = instance.get_latest_materialization_event(dg.AssetKey("published_model"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["version"].value == 1
        assert instance.get_dynamic_partitions("gguf_model") == ["tiny"]
    assert not list(tmp_path.rglob("*.db"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A kubeconfig of an API that accepts every job, and the jobs that it was given."""
    jobs: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            jobs.append({"path": self.path, **json.loads(body)})
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"},
                }
            ],
            "users": [{"name": "test", "user": {"token": "none"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        yield path, jobs
        server.shutdown()


@pytest.mark.slow
def test_a_run_on_kubernetes_is_a_pod_with_a_gpu_where_the_device_is_one(
    postgres: int,
    cluster: tuple[Path, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubeconfig, jobs = cluster
    environment = {
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_PORT": str(postgres),
        "DAGSTER_PG_USERNAME": "postgres",
        "DAGSTER_PG_PASSWORD": "secret",
        "DAGSTER_PG_DATABASE": "postgres",
        "DAGSTER_NAMESPACE": "models",
        "ROCMFORGE_IMAGE": "registry/rocmforge:1",
        "ROCMFORGE_HOME": "/var/lib/rocmforge",
        "ROCMFORGE_DEVICE": "rocm",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = yaml.safe_load((DEPLOY / "dagster-kubernetes.yaml").read_text())
    # Nothing else differs from a pod of the cluster.
    config["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for job in (benchmark_models, prepare_model):
            launch(instance, job)
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
    benchmark, prepare = (job["spec"]["template"]["spec"]["containers"][0] for job in jobs)
    assert [job["path"] for job in jobs] == ["/apis/batch/v1/namespaces/models/jobs"] * 2
    assert benchmark["image"] == "registry/rocmforge:1"
    assert benchmark["resources"]["limits"] == {"amd.com/gpu": "1"}
    assert {"name": "ROCMFORGE_HOME", "value": "/var/lib/rocmforge"} in benchmark["env"]
    mounts = {mount["name"]: mount["mountPath"] for mount in benchmark["volumeMounts"]}
    assert mounts["rocmforge"] == "/var/lib/rocmforge"
    assert "resources" not in prepare or not prepare["resources"].get("limits")


def benchmark_models() -> dg.JobDefinition:
    return definitions().resolve_job_def("benchmark_models")


def prepare_model() -> dg.JobDefinition:
    return definitions().resolve_job_def("prepare_model")


def launch(instance: dg.DagsterInstance, made: Callable[[], dg.JobDefinition]) -> None:
    """Launch a run of a job as the daemon does when the run leaves the queue."""
    job = made()
    origin = dg.reconstructable(made).get_python_origin()
    run = instance.create_run_for_job(job, tags=job.run_tags, job_code_origin=origin)
    # The launcher needs no workspace: the run says where its code is.
    instance.launch_run(run.run_id, workspace=None)  # type: ignore[arg-type]


def test_a_gpu_is_asked_for_only_where_the_device_is_one() -> None:
    assert gpu_tags(Settings(device="cpu")) == {}
    tag = json.loads(gpu_tags(Settings(device="rocm"))["dagster-k8s/config"])
    assert tag["container_config"]["resources"]["limits"] == {"amd.com/gpu": "1"}


def test_runs_that_use_the_whole_machine_go_one_at_a_time_under_every_instance() -> None:
    for path in DEPLOY.glob("dagster*.yaml"):
        pools = yaml.safe_load(path.read_text())["concurrency"]["pools"]
        assert pools == {"granularity": "run", "default_limit": 1}
    loaded = definitions()
    for name in ("prepare_model", "publish_model", "benchmark_models"):
        pools = {
            pool for node in loaded.resolve_job_def(name).nodes for pool in node.definition.pools
        }
        assert "machine" in pools
