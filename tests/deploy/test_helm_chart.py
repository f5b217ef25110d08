"""The chart of deploy/helm: rendered by helm, checked against Kubernetes' schemas, and started."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import requests
import yaml

from rocmforge.__main__ import build_parser, main
from runtime.settings import PREFIX, Settings
from tests.command_line.test_takeover import publish
from tests.deploy.helm import PLACE
from tests.waiting import SECONDS, eventually

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "rocmforge"
VALUES = sorted((CHART / "ci").glob("*.yaml"))
LLM_D = ROOT / "deploy" / "helm" / "llm-d" / "rocmforge.yaml"
KSERVE = ROOT / "deploy" / "kserve"
OLDEST = "1.30"

Object = dict[str, Any]


@pytest.fixture(scope="session")
def helm() -> str:
    found = shutil.which("helm") or shutil.which(PLACE)
    if found is None:
        pytest.skip("helm is not here: `make helm` fetches it")
    return found


def called(helm: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [helm, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


def rendered(helm: str, values: Path, *options: str, release: str = "model") -> dict[str, Object]:
    """The objects of the chart by their kinds."""
    done = called(helm, "template", release, CHART, "--values", values, *options)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each is not None]
    by_kind = {each["kind"]: each for each in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def pod_of(objects: Mapping[str, Object]) -> Object:
    pod: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return pod


def containers_of(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def variables_of(container: Object) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize("values", [*VALUES, LLM_D], ids=lambda path: path.stem)
def test_it_is_linted_and_every_object_fits_kubernetes(helm: str, values: Path) -> None:
    done = called(helm, "lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr
    objects = rendered(helm, values)
    assert {"Deployment", "Service"} <= objects.keys()
    for each in objects.values():
        for version in (OLDEST, kubernetes_validate.latest_version()):
            if version == OLDEST and values.stem == "image":
                continue  # image volumes came later
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("values", [*VALUES, LLM_D], ids=lambda path: path.stem)
def test_containers_run_what_this_program_takes(helm: str, values: Path) -> None:
    for container in containers_of(pod_of(rendered(helm, values))):
        command: list[str] = [*container["command"], *container.get("args", ())]
        assert command[0] == "rocmforge"
        assert callable(build_parser().parse_args(command[1:]).run)
        ours = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in variables_of(container).items()
            if name.startswith(PREFIX)
        }
        assert ours.keys() <= set(Settings.__struct_fields__)
        settings = Settings.from_environment({PREFIX + k.upper(): v for k, v in ours.items()})
        assert settings.host == "0.0.0.0"
        mounts = {each["mountPath"] for each in container["volumeMounts"]}
        assert str(settings.home) in mounts
        assert bool(settings.insecure) is ("/etc/rocmforge" not in mounts)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_a_pod_outlives_its_drain_and_writes_nowhere_else(helm: str, values: Path) -> None:
    pod = pod_of(rendered(helm, values))
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    (server,) = pod["containers"]
    for container in containers_of(pod):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    drain = float(variables_of(server)["ROCMFORGE_DRAIN_TIMEOUT"])
    wait = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    # The drain ends by itself 60 seconds later, whatever hangs.
    assert pod["terminationGracePeriodSeconds"] > wait + drain + 60
    assert server["startupProbe"]["httpGet"]["path"] == "/health"
    assert server["livenessProbe"]["httpGet"]["path"] == "/health"
    assert server["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_the_queue_scales_it_and_amds_plugin_gives_its_gpu(helm: str) -> None:
    objects = rendered(helm, CHART / "ci" / "image.yaml")
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "rocmforge_queue_length"
    assert "replicas" not in objects["Deployment"]["spec"]
    (server,) = pod_of(objects)["containers"]
    assert server["resources"]["limits"]["amd.com/gpu"] == "1"
    assert variables_of(server)["ROCMFORGE_DEVICE"] == "rocm"
    (model,) = [each for each in pod_of(objects)["volumes"] if each["name"] == "model"]
    assert model["image"]["reference"] == "registry.example.org/models/model:3"
    assert server["command"][-1] == "/mnt/models"


def test_one_version_is_served_by_its_name_and_the_newest_by_its_url(helm: str) -> None:
    once = pod_of(rendered(helm, CHART / "ci" / "once.yaml"))
    assert once["initContainers"][0]["command"][-1] == "gs://bucket/models/model@3"
    assert once["containers"][0]["command"][-1] == "model"
    followed = pod_of(rendered(helm, CHART / "ci" / "storage.yaml"))
    url = "s3://bucket/models/model"
    assert [each["command"][-1] for each in containers_of(followed)] == [url, url]


def test_selectors_find_the_pods(helm: str) -> None:
    objects = rendered(helm, CHART / "ci" / "storage.yaml")
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    spec = {kind: each["spec"] for kind, each in objects.items() if "spec" in each}
    for selector in (
        spec["Deployment"]["selector"]["matchLabels"],
        spec["PodDisruptionBudget"]["selector"]["matchLabels"],
        spec["Service"]["selector"],
    ):
        assert selector.items() <= labels
    router = yaml.safe_load((LLM_D.parent / "router.yaml").read_text())["router"]
    servers = rendered(helm, LLM_D, release="servers")
    pods = servers["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert router["modelServers"]["matchLabels"].items() <= pods


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("prot=1", "prot"),
        ("port=80", "port"),
        ("model.source=disk", "source"),
        ("model.storage.url=bucket/model", "url"),
        ("model.storage.url=", "url"),
        ("settings.cache-tokens=5", "cache-tokens"),
        ("settings.CACHE_TOKENS=5", "settings"),
        ("settings.PORT=text", "PORT"),
        ("keys.secret=", "everybody who reaches the Service"),
        ("image.repository=", "image.repository"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(helm: str, wrong: str, told: str) -> None:
    values = CHART / "ci" / "storage.yaml"
    done = called(helm, "template", "model", CHART, "--values", values, "--set", wrong)
    assert done.returncode != 0
    assert told in done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.long
def test_the_rendered_containers_run_on_this_machine(helm: str, tmp_path: Path) -> None:
    """As they stand, but for the folders that a pod mounts."""
    here, port = Settings(home=tmp_path / "here"), free_port()
    publish(here, tmp_path / "tiny.gguf", seed=1)
    storage = f"file://{tmp_path}/storage"
    assert main(["push", "tiny", storage, "--home", str(here.home)]) == 0
    assert main(["keys", "team", "--key-file", str(tmp_path / "keys.toml")]) == 0
    pod = pod_of(
        rendered(
            helm,
            CHART / "ci" / "storage.yaml",
            *("--set", f"model.storage.url={storage}/tiny", "--set", f"port={port}"),
        )
    )
    folders = {"ROCMFORGE_HOME": tmp_path / "home", "ROCMFORGE_KEY_FILE": tmp_path / "keys.toml"}

    def started(container: Object) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **variables_of(container)}
        environment |= {name: str(path) for name, path in folders.items()}
        return subprocess.Popen(
            [sys.executable, "-m", *container["command"], *container.get("args", ())],
            env=environment,
        )

    (pull,) = pod["initContainers"]
    assert started(pull).wait(SECONDS) == 0
    (server,) = pod["containers"]
    process = started(server)

    def answers(probe: str) -> bool:
        path = server[probe]["httpGet"]["path"]
        with suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{port}{path}", timeout=SECONDS).ok
        return False

    try:
        eventually(lambda: answers("startupProbe"))
        eventually(lambda: answers("readinessProbe"))
        assert answers("livenessProbe")
        refused = requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=SECONDS)
        assert refused.status_code == 401
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_the_values_have_a_schema_and_the_defaults_are_what_it_names() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values.keys() | {"global"} == schema["properties"].keys()


def test_kserve_starts_what_this_program_takes() -> None:
    runtime = yaml.safe_load((KSERVE / "servingruntime.yaml").read_text())
    service = yaml.safe_load((KSERVE / "inferenceservice.yaml").read_text())
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert callable(build_parser().parse_args(container["command"][1:]).run)
    settings = Settings.from_environment(variables_of(container))
    predictor = service["spec"]["predictor"]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    formats = [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert predictor["model"]["modelFormat"]["name"] in formats
    assert predictor["terminationGracePeriodSeconds"] > settings.drain_timeout + 60
    ports = {each["containerPort"] for each in container["ports"]}
    assert ports == {settings.port}
    # The container is one that Kubernetes takes, wherever KServe puts it.
    pod = {"containers": [container], "volumes": runtime["spec"]["volumes"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod},
        kubernetes_validate.latest_version(),
        strict=True,
    )
