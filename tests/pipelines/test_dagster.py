"""The whole graph of Dagster in this process, with a tiny model."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from pipelines import assets
from pipelines.conversion.convert import convert
from pipelines.definitions import definitions
from pipelines.prepare import prepare
from pipelines.resources import ModelPreparation
from pipelines.sensors import PATIENCE_TICKS, converted_models, gguf_files
from pipelines.validation import CHECKS, process
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.models import write_tiny_llama
from tests.pipelines import faults
from tests.pipelines.faults import convert_wrongly
from tests.split_models import split

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


@dataclass(frozen=True)
class Preparation:
    """The runs of a partition: prepare_model, then publish_model where that succeeded."""

    runs: tuple[dg.ExecuteInProcessResult, ...]

    @property
    def success(self) -> bool:
        return len(self.runs) == 2 and all(run.success for run in self.runs)

    def outcomes(self) -> dict[str, bool]:
        """What each check came to that ran."""
        return {
            each.check_name: each.passed
            for each in self.evaluations()
            if each.severity is dg.AssetCheckSeverity.ERROR
        }

    def evaluations(self) -> list[dg.AssetCheckEvaluation]:
        return [each for run in self.runs for each in run.get_asset_check_evaluations()]

    def metadata(self, step: str) -> dict[str, dg.MetadataValue]:
        (event,) = [each for run in self.runs for each in run.asset_materializations_for_node(step)]
        return dict(event.metadata)

    def reason(self) -> str:
        return reason(self.runs[-1])


def reason(run: dg.ExecuteInProcessResult) -> str:
    """The sentence with which a run failed."""
    (failed,) = [event for event in run.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data is not None
    return str(failed.step_failure_data.user_failure_data.description)


def run_job(
    instance: dg.DagsterInstance, job: str, key: str, tags: dict[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions("gguf_model", [key])
    return (
        definitions()
        .resolve_job_def(job)
        .execute_in_process(instance=instance, partition_key=key, raise_on_error=False, tags=tags)
    )


def prepare_model(instance: dg.DagsterInstance, key: str) -> Preparation:
    """Run prepare_model, and publish_model as its sensor asks for it."""
    converted = run_job(instance, "prepare_model", key)
    if not converted.success:
        return Preparation((converted,))
    request = converted_models(
        dg.build_run_status_sensor_context(
            sensor_name="converted_models",
            dagster_instance=instance,
            dagster_run=converted.dagster_run,
            dagster_event=converted.get_run_success_event(),
        )
    )
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == key
    return Preparation((converted, run_job(instance, "publish_model", key, dict(request.tags))))


def test_a_gguf_becomes_a_published_model(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    write_tiny_llama(incoming / "tiny.gguf", format="Q4_0", embedding_format="Q8_0")
    result = prepare_model(instance, "tiny")
    assert result.success
    assert result.outcomes() == dict.fromkeys(CHECKS, True)
    (model,) = Registry(settings).models()
    assert (model.name, model.version) == ("tiny", 1)
    assert [check.name for check in model.manifest.checks] == list(CHECKS)

    formats = result.metadata("gguf_file")["block_formats"]
    assert isinstance(formats, dg.TableMetadataValue)
    assert [record.data["format"] for record in formats.records] == ["Q4_0", "Q8_0", "F32"]
    operators = result.metadata("onnx_model")["operators"]
    assert isinstance(operators, dg.TableMetadataValue)
    assert operators.records[0].data == {"operator": "NormQuantMatMul", "count": 5}
    assert result.metadata("published_model")["version"].value == 1


@pytest.mark.sample
@pytest.mark.long
def test_the_sample_model_goes_through_the_whole_graph(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings, sample_model: Path
) -> None:
    (incoming / "sample.gguf").symlink_to(sample_model)
    result = prepare_model(instance, "sample")
    assert result.outcomes() == dict.fromkeys(CHECKS, True)
    (model,) = Registry(settings).models()
    assert model.manifest.weights.size == sample_model.stat().st_size
    assert result.metadata("published_model")["version"].value == 1


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
    assert result.outcomes() == {
        "structure": True,
        "session": True,
        "tokenizer": True,
        "logits": False,
    }
    assert {each.check_name: each.description for each in result.evaluations()}[
        "greedy"
    ] == "not run, since logits failed"
    summaries = {e.check_name: e.description for e in result.evaluations()}
    assert "blk.1.attention" in str(summaries["logits"])
    assert [model.version for model in Registry(settings).models()] == [1]


def test_a_corrupt_gguf_fails_in_one_sentence(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    (incoming / "garbage.gguf").write_bytes(b"GGUF" + bytes(range(200)))
    result = prepare_model(instance, "garbage")
    assert not result.success
    assert "garbage.gguf" in result.reason()
    assert not settings.models_folder.exists()


def test_an_unsupported_model_is_refused_by_name(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_tiny_llama(incoming / "q8.gguf", format="Q8_1")
    assert "block format Q8_1" in prepare_model(instance, "q8").reason()


def test_what_runs_left_behind_is_removed_by_the_next(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    write_tiny_llama(incoming / "tiny.gguf")
    registry = Registry(settings)
    assert run_job(instance, "prepare_model", "tiny").success
    (first,) = registry.stagings("tiny")
    assert run_job(instance, "prepare_model", "tiny").success
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
    assert asked_for(second) == [f"tiny@{path.stat().st_mtime_ns}#2"]
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


def test_a_model_in_pieces_is_prepared_once_when_all_are_there(
    instance: dg.DagsterInstance, incoming: Path, tmp_path: Path
) -> None:
    pieces = split(write_tiny_llama(tmp_path / "tiny.gguf"), 3, folder=incoming)
    late = pieces[1].rename(tmp_path / "late")
    waiting = look(instance, look(instance).cursor)
    assert asked_for(waiting) == []
    assert waiting.skip_reason is not None
    assert "waits for its other pieces" in str(waiting.skip_reason)
    assert pieces[1].name in str(waiting.skip_reason)
    late.rename(pieces[1])
    stable = look(instance, look(instance, waiting.cursor).cursor)
    assert [request.partition_key for request in stable.run_requests or ()] == ["tiny"]
    assert prepare_model(instance, "tiny").success


def test_a_changed_file_is_prepared_again(instance: dg.DagsterInstance, incoming: Path) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf", seed=1)
    cursor = look(instance, look(instance).cursor).cursor
    write_tiny_llama(path, seed=2)
    os.utime(path, ns=(1, 1))
    cursor = look(instance, cursor).cursor
    assert asked_for(look(instance, cursor)) == ["tiny@1#4"]


def test_a_file_that_leaves_and_comes_back_is_prepared_again(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf")
    second = look(instance, look(instance).cursor)
    assert prepare_model(instance, "tiny").success
    path.rename(incoming.parent / "away.gguf")
    cursor = look(instance, look(instance, second.cursor).cursor).cursor
    assert Registry(settings).current("tiny") is None
    (incoming.parent / "away.gguf").rename(path)
    again = look(instance, look(instance, cursor).cursor)
    assert len(asked_for(again)) == 1
    assert asked_for(again) != asked_for(second)
    assert prepare_model(instance, "tiny").success
    current = Registry(settings).current("tiny")
    assert current is not None
    assert current.version == 1


@pytest.mark.long
def test_an_unchanged_file_publishes_no_further_version(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    write_tiny_llama(incoming / "tiny.gguf")
    results = [prepare_model(instance, "tiny") for _ in range(3)]
    assert [each.metadata("published_model")["is_new"].value for each in results] == [
        True,
        False,
        False,
    ]
    registry = Registry(settings)
    assert [model.version for model in registry.versions("tiny")] == [1]
    assert registry.stagings("tiny") == []


def test_a_file_that_ends_too_early_is_waited_for_and_then_told(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    path = write_tiny_llama(incoming / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-1000])
    cursor = None
    for _ in range(PATIENCE_TICKS):
        result = look(instance, cursor)
        cursor = result.cursor
        assert asked_for(result) == []
    assert "'tiny.gguf' ends earlier than its header says" in str(result.skip_reason)
    assert len(asked_for(look(instance, cursor))) == 1
    assert "tiny.gguf" in prepare_model(instance, "tiny").reason()


def test_what_cannot_be_prepared_is_told_in_the_tick(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    (incoming / "folder.gguf").mkdir()
    os.mkfifo(incoming / "pipe.gguf")
    (incoming / "dangling.gguf").symlink_to(incoming / "nothing")
    (incoming / "a...b.gguf").write_bytes(b"GGUF")
    (incoming / "same name.gguf").write_bytes(b"GGUF")
    (incoming / "same+name.gguf").write_bytes(b"GGUF")
    (incoming / ".hidden.gguf").write_bytes(b"GGUF")
    (incoming / "notes.txt").write_bytes(b"GGUF")
    told = str(look(instance).skip_reason)
    assert "'folder.gguf' is a folder" in told
    assert "'pipe.gguf' is no regular file" in told
    assert "'dangling.gguf' cannot be read" in told
    assert "'a...b.gguf' has '...'" in told
    assert "'same+name.gguf' would be published under the same name as same name.gguf" in told
    assert "hidden" not in told
    assert "notes" not in told


def test_the_suffix_may_be_in_upper_case(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings
) -> None:
    write_tiny_llama(incoming / "Tiny.GGUF")
    result = look(instance, look(instance).cursor)
    assert [request.partition_key for request in result.run_requests or ()] == ["Tiny"]
    assert prepare_model(instance, "Tiny").success
    assert [model.name for model in Registry(settings).models()] == ["Tiny"]


@pytest.mark.parametrize("job", ["prepare_model", "publish_model", "benchmark_models"])
def test_a_job_without_a_partition_says_so_in_one_sentence(
    instance: dg.DagsterInstance, incoming: Path, job: str
) -> None:
    result = (
        definitions()
        .resolve_job_def(job)
        .execute_in_process(instance=instance, raise_on_error=False)
    )
    assert not result.success
    assert "the run has no partition" in reason(result)


def test_a_rollback_with_the_launchpads_own_values_says_what_to_write(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    job = definitions().resolve_job_def("rollback_model")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert reason(result) == ("write a model's name for NAME in the launchpad; published: none")


def test_a_file_that_fails_leaves_the_checks_of_other_models_as_they_are(
    instance: dg.DagsterInstance, incoming: Path
) -> None:
    """Dagster shows the newest note of a check over all models, and notes checks when it plans."""
    write_tiny_llama(incoming / "good.gguf")
    assert prepare_model(instance, "good").success
    (incoming / "broken.gguf").write_bytes(b"GGUF" + bytes(200))
    assert not prepare_model(instance, "broken").success
    for name in CHECKS:
        key = dg.AssetCheckKey(dg.AssetKey("onnx_model"), name)
        (newest,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert newest.partition == "good"
        assert newest.status.value == "SUCCEEDED"


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
        registry.publish(staging, convert(Source(path), staging, "tiny"))
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
        **{f"gguf_file.{key}": value for key, value in result.metadata("gguf_file").items()},
        **{
            f"{check.check_name}.{key}": value
            for check in result.evaluations()
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
    checks = result.metadata("published_model")["checks"]
    assert isinstance(checks, dg.TableMetadataValue)
    assert [record.data["check"] for record in checks.records] == list(CHECKS)


@pytest.mark.long
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
        assert "No space left on device" in result.reason()
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
    monkeypatch.setattr(process, "FUNCTION", f"{faults.__name__}:killed_in_logits")
    result = prepare_model(instance, "tiny")
    assert not result.success
    assert result.outcomes() == {
        "structure": True,
        "session": True,
        "tokenizer": True,
        "logits": False,
    }
    summaries = {e.check_name: e.description for e in result.evaluations()}
    assert "was killed by SIGKILL" in str(summaries["logits"])


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
