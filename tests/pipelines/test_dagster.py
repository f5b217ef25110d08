"""The Dagster face: the whole graph in this process, with a tiny model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipelines import assets
from pipelines.definitions import definitions
from pipelines.registry import Registry
from pipelines.resources import ModelPreparation
from pipelines.sensors import gguf_files
from pipelines.validation import CHECKS
from runtime.settings import Settings
from tests.models import write_tiny_llama
from tests.pipelines.faults import convert_wrongly

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def incoming(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of GGUF files, where the definitions' own resource finds it."""
    monkeypatch.setenv("ROCMFORGE_HOME", str(settings.home))
    settings.incoming_folder.mkdir(parents=True)
    return settings.incoming_folder


def prepare_model(instance: dg.DagsterInstance, key: str, *steps: str) -> dg.ExecuteInProcessResult:
    """Run the job, or only some assets of it, for one partition."""
    instance.add_dynamic_partitions("gguf_model", [key])
    job = definitions().resolve_job_def("prepare_model")
    return job.execute_in_process(
        instance=instance,
        partition_key=key,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(step) for step in steps] or None,
    )


def outcomes(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def reason(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data is not None
    return str(failed.step_failure_data.user_failure_data.description)


def metadata(result: dg.ExecuteInProcessResult, step: str) -> dict[str, dg.MetadataValue]:
    (event,) = result.asset_materializations_for_node(step)
    return dict(event.metadata)


def test_a_gguf_becomes_a_published_model(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    write_tiny_llama(incoming / "tiny.gguf", format="Q4_0", embedding_format="Q8_0")
    result = prepare_model(instance, "tiny")
    assert result.success
    assert outcomes(result) == dict.fromkeys(CHECKS, True)
    (model,) = Registry(settings).models()
    assert (model.name, model.version) == ("tiny", 1)
    assert [check.name for check in model.manifest.checks] == list(CHECKS)

    formats = metadata(result, "gguf_file")["block_formats"]
    assert isinstance(formats, dg.TableMetadataValue)
    assert [record.data["format"] for record in formats.records] == ["Q4_0", "Q8_0", "F32"]
    operators = metadata(result, "onnx_model")["operators"]
    assert isinstance(operators, dg.TableMetadataValue)
    assert operators.records[0].data == {"operator": "NormQuantMatMul", "count": 5}
    assert metadata(result, "published_model")["version"].value == 1


def test_a_planted_fault_is_named_and_keeps_the_published_version(
    instance: dg.DagsterInstance,
    incoming: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf", seed=1)
    assert prepare_model(instance, "tiny").success
    path.unlink()
    write_tiny_llama(path, seed=2)
    monkeypatch.setattr(assets, "convert", convert_wrongly)
    result = prepare_model(instance, "tiny")
    assert not result.success
    assert outcomes(result) == {
        name: name in ("structure", "session", "tokenizer") for name in CHECKS
    }
    summaries = {e.check_name: e.description for e in result.get_asset_check_evaluations()}
    assert "blk.1.attention" in str(summaries["logits"])
    assert [model.version for model in Registry(settings).models()] == [1]


def test_a_corrupt_gguf_fails_in_one_sentence(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    (incoming / "garbage.gguf").write_bytes(b"GGUF" + bytes(range(200)))
    result = prepare_model(instance, "garbage")
    assert not result.success
    assert "garbage.gguf" in reason(result)
    assert not settings.models_folder.exists()


def test_an_unsupported_model_is_refused_by_name(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_tiny_llama(incoming / "q8.gguf", format="Q8_1")
    assert "block format Q8_1" in reason(prepare_model(instance, "q8"))


def test_what_runs_left_behind_is_removed_by_the_next(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    write_tiny_llama(incoming / "tiny.gguf")
    registry = Registry(settings)
    assert prepare_model(instance, "tiny", "gguf_file", "onnx_model").success
    (first,) = registry.stagings("tiny")
    assert prepare_model(instance, "tiny", "onnx_model").success
    (second,) = registry.stagings("tiny")
    assert first != second


def test_new_files_are_offered_as_partitions(instance: dg.DagsterInstance, incoming: Path) -> None:
    write_tiny_llama(incoming / "tiny.gguf")
    instance.add_dynamic_partitions("gguf_model", ["known"])
    shutil.copy(incoming / "tiny.gguf", incoming / "known.gguf")
    context = dg.build_sensor_context(
        instance=instance, resources={"preparation": ModelPreparation()}
    )
    result = gguf_files(context)
    assert isinstance(result, dg.SensorResult)
    (request,) = result.dynamic_partitions_requests or ()
    assert list(request.partition_keys) == ["tiny"]


@pytest.mark.slow
def test_the_workspace_loads_under_our_instance_settings(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "dagster.yaml", tmp_path / "dagster.yaml")
    command = ["-m", "dagster", "definitions", "validate", "--workspace", "workspace.yaml"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "rocmforge" in done.stderr + done.stdout
