"""Dagster puts what it has published into the storage, and a rollback too."""

from pathlib import Path

import dagster as dg
import msgspec
import pytest

from pipelines.definitions import definitions
from pipelines.resources import ModelPreparation
from pipelines.sensors import published_models
from pipelines.storage_assets import retried
from runtime.errors import StorageError
from runtime.settings import Settings
from runtime.storage.layout import Pointer, pointer_key
from runtime.storage.stores import open_store
from tests.command_line.test_takeover import publish
from tests.pipelines.test_dagster import incoming, instance, reason, run_job

__all__ = ["incoming", "instance"]
pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"file://{tmp_path}/storage"
    monkeypatch.setenv("ROCMFORGE_STORAGE", url)
    return url


def stored_version(storage: str) -> int:
    pointer = open_store(storage).read(pointer_key("tiny"), 1000)
    return msgspec.json.decode(pointer, type=Pointer).version


def asked_for(
    instance: dg.DagsterInstance, run: dg.ExecuteInProcessResult
) -> dg.RunRequest | dg.SkipReason:
    """What the sensor asks for after a run that has published a model."""
    request = published_models(
        dg.build_run_status_sensor_context(
            sensor_name="published_models",
            dagster_instance=instance,
            dagster_run=run.dagster_run,
            dagster_event=run.get_run_success_event(),
        ),
        preparation=ModelPreparation(),
    )
    assert isinstance(request, dg.RunRequest | dg.SkipReason)
    return request


def test_what_is_published_is_stored_and_a_rollback_is_too(
    instance: dg.DagsterInstance, incoming: Path, settings: Settings, storage: str
) -> None:
    for seed in (1, 2):
        publish(settings, incoming / "tiny.gguf", seed=seed)
        run = run_job(instance, "store_model", "tiny")
        assert run.success
        (event,) = run.asset_materializations_for_node("stored_model")
        assert event.metadata["address"].value == f"{storage}/tiny@{seed}"
        assert stored_version(storage) == seed
    back = definitions().resolve_job_def("rollback_model")
    config = {"ops": {"point_to_version": {"config": {"model": "tiny", "version": 1}}}}
    assert back.execute_in_process(instance=instance, run_config=config).success
    assert stored_version(storage) == 1


def test_the_sensor_asks_for_it_only_where_there_is_a_storage(
    instance: dg.DagsterInstance,
    incoming: Path,
    settings: Settings,
    storage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(settings, incoming / "tiny.gguf", seed=1)
    run = run_job(instance, "store_model", "tiny")
    request = asked_for(instance, run)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "tiny"
    monkeypatch.delenv("ROCMFORGE_STORAGE")
    skipped = asked_for(instance, run)
    assert isinstance(skipped, dg.SkipReason)
    assert "ROCMFORGE_STORAGE is not set" in str(skipped.skip_message)
    assert "set ROCMFORGE_STORAGE" in reason(run_job(instance, "store_model", "tiny"))


def test_a_storage_that_is_not_reached_is_tried_again() -> None:
    with pytest.raises(dg.Failure, match="not reached") as failure, retried():
        raise StorageError("the storage is not reached")
    assert failure.value.allow_retries
