"""The Dagster face: the whole graph in this process, with a tiny model."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipelines import assets, checks
from pipelines.convert import convert
from pipelines.definitions import definitions
from pipelines.prepare import prepare
from pipelines.resources import ModelPreparation
from pipelines.sensors import gguf_files
from pipelines.validation import CHECKS, validate_apart
from runtime.manifest import CheckResult
from runtime.registry import Registry
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


@pytest.mark.sample
def test_the_sample_model_goes_through_the_whole_graph(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings, sample_model: Path
) -> None:
    (incoming / "sample.gguf").symlink_to(sample_model)
    result = prepare_model(instance, "sample")
    assert outcomes(result) == dict.fromkeys(CHECKS, True)
    (model,) = Registry(settings).models()
    assert model.manifest.weights.size == sample_model.stat().st_size
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


def look(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """One tick of the sensor; partitions are made and removed as the daemon would."""
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"preparation": ModelPreparation()}
    )
    result = gguf_files(context)
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or ():
        for key in request.partition_keys:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                instance.add_dynamic_partitions("gguf_model", [key])
            else:
                instance.delete_dynamic_partition("gguf_model", key)
    return result


def asked_for(result: dg.SensorResult) -> list[str | None]:
    return [request.run_key for request in result.run_requests or ()]


def test_a_new_file_is_prepared_once_when_it_is_stable(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf")
    first = look(instance)
    assert asked_for(first) == []
    second = look(instance, first.cursor)
    assert asked_for(second) == [f"tiny@{path.stat().st_mtime_ns}"]
    assert instance.get_dynamic_partitions("gguf_model") == ["tiny"]
    assert asked_for(look(instance, second.cursor)) == []


def test_a_file_that_is_being_copied_is_left_until_it_is_whole(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    content = write_tiny_llama(incoming.parent / "whole.gguf").read_bytes()
    path = incoming / "tiny.gguf"
    cursor = None
    for part in range(1, 4):
        path.write_bytes(content[: part * len(content) // 4])
        result = look(instance, cursor)
        cursor = result.cursor
        assert asked_for(result) == []
    path.write_bytes(content)
    result = look(instance, look(instance, cursor).cursor)
    assert len(asked_for(result)) == 1


def test_a_changed_file_is_prepared_again(instance: dg.DagsterInstance, incoming: Path) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf", seed=1)
    cursor = look(instance, look(instance).cursor).cursor
    write_tiny_llama(path, seed=2)
    os.utime(path, ns=(1, 1))
    cursor = look(instance, cursor).cursor
    assert asked_for(look(instance, cursor)) == ["tiny@1"]


def test_the_model_of_a_file_that_is_gone_is_retired(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf")
    cursor = look(instance, look(instance).cursor).cursor
    assert prepare_model(instance, "tiny").success
    path.unlink()
    cursor = look(instance, cursor).cursor
    registry = Registry(settings)
    assert registry.current("tiny") is not None  # it may be on its way to another place
    result = look(instance, cursor)
    assert instance.get_dynamic_partitions("gguf_model") == []
    assert registry.models() == []
    assert registry.names() == ["tiny"]
    assert registry.rollback("tiny").version == 1
    assert asked_for(look(instance, result.cursor)) == []


def test_partitions_and_models_that_never_had_a_file_here_stay(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    elsewhere = write_tiny_llama(incoming.parent / "tiny.gguf")
    prepare(elsewhere, settings, lambda step: None)
    instance.add_dynamic_partitions("gguf_model", ["tiny"])
    shutil.copy(elsewhere, incoming / "tiny.gguf")
    cursor = look(instance, look(instance).cursor).cursor
    (incoming / "tiny.gguf").unlink()
    cursor = look(instance, look(instance, cursor).cursor).cursor
    assert [model.name for model in Registry(settings).models()] == ["tiny"]
    instance.add_dynamic_partitions("gguf_model", ["never-a-file"])
    look(instance, look(instance, cursor).cursor)
    assert instance.get_dynamic_partitions("gguf_model") == ["never-a-file"]


def test_a_folder_that_is_not_there_retires_nothing(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    incoming.rmdir()
    context = dg.build_sensor_context(
        instance=instance, resources={"preparation": ModelPreparation()}
    )
    assert isinstance(gguf_files(context), dg.SkipReason)


def test_rollback_is_a_job(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf", seed=1)
    registry = Registry(settings)
    for seed in (1, 2):
        path.unlink()
        write_tiny_llama(path, seed=seed)
        staging = registry.new_staging("tiny", "test")
        registry.publish(staging, convert(path, staging, "tiny"))
    job = definitions().resolve_job_def("rollback_model")

    def roll_back(model: str) -> dg.ExecuteInProcessResult:
        config = {"ops": {"point_to_version": {"config": {"model": model}}}}
        return job.execute_in_process(config, instance=instance, raise_on_error=False)

    assert roll_back("tiny").success
    current = registry.current("tiny")
    assert current is not None
    assert current.version == 1
    assert "no earlier version" in reason(roll_back("tiny"))
    assert "no model is called other" in reason(roll_back("other"))
    events = instance.fetch_observations(dg.AssetKey("published_model"), limit=5).records
    assert [event.partition_key for event in events] == ["tiny"]


def test_pictures_and_tables_are_in_the_metadata(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_tiny_llama(incoming / "tiny.gguf", layers=3)
    result = prepare_model(instance, "tiny")
    found = {
        **{f"gguf_file.{key}": value for key, value in metadata(result, "gguf_file").items()},
        **{
            f"{check.check_name}.{key}": value
            for check in result.get_asset_check_evaluations()
            for key, value in check.metadata.items()
        },
    }
    drawn = [key for key, value in found.items() if "data:image/png;base64," in str(value.value)]
    assert sorted(drawn) == [
        "gguf_file.block_formats_picture",
        "logits.divergence_picture",
        "logits.layers_picture",
        "perplexity.divergence_picture",
    ]
    for key in drawn:
        encoded = str(found[key].value).rpartition(",")[2].removesuffix(")")
        assert base64.b64decode(encoded).startswith(b"\x89PNG")
    checks = metadata(result, "published_model")["checks"]
    assert isinstance(checks, dg.TableMetadataValue)
    assert [record.data["check"] for record in checks.records] == list(CHECKS)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which takes root")
def test_a_full_disk_fails_in_one_sentence_and_keeps_the_published_version(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf", seed=1)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mounted(settings))],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        assert prepare_model(instance, "tiny").success
        filler = settings.models_folder / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1 << 20))
        path.unlink()
        write_tiny_llama(path, seed=2)
        result = prepare_model(instance, "tiny")
        assert not result.success
        assert "No space left on device" in reason(result)
        registry = Registry(settings)
        assert [model.version for model in registry.models()] == [1]
        filler.unlink()
        assert prepare_model(instance, "tiny").success
        assert [model.version for model in registry.models()] == [2]
        assert registry.stagings("tiny") == []
    finally:
        subprocess.run(["umount", "--lazy", str(settings.models_folder)], check=True)


def mounted(settings: Settings) -> Path:
    settings.models_folder.mkdir(parents=True)
    return settings.models_folder


def test_a_killed_check_process_is_the_failure_of_its_check(
    instance: dg.DagsterInstance, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_llama(incoming / "tiny.gguf")
    children: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            children.append(self)

    def killed(
        folder: Path, settings: Settings, progress: Callable[[str], None]
    ) -> tuple[CheckResult, ...]:
        def told(step: str) -> None:
            progress(step)
            if step == CHECKS["logits"].step:
                children[-1].kill()

        return validate_apart(folder, settings, told)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr(checks, "validate_apart", killed)
    result = prepare_model(instance, "tiny")
    assert not result.success
    found = outcomes(result)
    assert [name for name in CHECKS if found[name]] == ["structure", "session", "tokenizer"]
    summaries = {e.check_name: e.description for e in result.get_asset_check_evaluations()}
    assert "ended with status -9" in str(summaries["logits"])


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
