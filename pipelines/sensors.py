"""Watches the folder of GGUF files, publishes converted models, and stores published ones."""

from pathlib import Path

import dagster as dg
import msgspec

from pipelines.assets import CONVERSION_TAG, PARTITION_TAG, PARTITIONS, gguf_models
from pipelines.jobs import prepare_model, publish_model, store_model
from pipelines.resources import ModelPreparation
from runtime.errors import GGUFError, TruncatedGGUF
from runtime.gguf import GGUFFile, pieces_of
from runtime.registry import Registry, model_name

PATIENCE_TICKS = 10
"""Ticks for which a file that ends too early may stay as it is: a copy may have paused."""


class SeenFile(msgspec.Struct):
    """A model's file, or all its pieces, as a tick of the sensor saw them."""

    size: int
    modified_ns: int
    """Of the one that was modified last."""
    path: str = ""
    unchanged_ticks: int = 0
    is_requested: bool = False
    """Whether a run was requested at this size and time."""
    is_missing: bool = False


class Cursor(msgspec.Struct):
    """State of the sensor between two ticks."""

    ticks: int = 0
    """Part of a run's key, so that a file that comes back unchanged is prepared again."""
    files: dict[str, SeenFile] = {}


@dg.sensor(
    job=prepare_model,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Prepares every new or changed GGUF file of the folder once it has stopped "
    "changing, and retires the model of one that is gone.",
)
def gguf_files(
    context: dg.SensorEvaluationContext, preparation: ModelPreparation
) -> dg.SensorResult | dg.SkipReason:
    """Compare the folder with what the last tick saw, which is in the cursor.

    A file is prepared when two ticks see the same size and time, so one that is being copied waits.
    Only files that were seen here are retired, when two ticks miss them: a folder that is not
    there at all, such as a disk that is not mounted, retires nothing.
    """
    folder = preparation.settings.incoming_folder
    if not folder.is_dir():
        return dg.SkipReason(f"{folder} does not exist; put GGUF files there")
    before = _cursor(context.cursor)
    incoming = preparation.incoming()
    after = Cursor(ticks=before.ticks + 1)
    reasons = list(incoming.ignored)
    requests: list[dg.RunRequest] = []
    for key, path in incoming.files.items():
        file = _look(path, before.files.get(key))
        if file is None:
            continue
        after.files[key] = file
        if not file.unchanged_ticks or file.is_requested:
            continue
        if file.unchanged_ticks < PATIENCE_TICKS and _is_truncated(path):
            reasons.append(f"{path.name!r} ends earlier than its header says; waiting for the rest")
            continue
        file.is_requested = True
        run_key = f"{key}@{file.modified_ns}#{after.ticks}"
        requests.append(dg.RunRequest(run_key=run_key, partition_key=key))
    gone: list[str] = []
    for key in before.files.keys() - after.files.keys():
        if before.files[key].is_missing:
            gone.append(key)
            _retire(context, preparation.registry, Path(before.files[key].path))
        else:
            after.files[key] = msgspec.structs.replace(before.files[key], is_missing=True)
    for each in reasons:
        context.log.info(each)
    known = set(context.instance.get_dynamic_partitions(PARTITIONS))
    new = sorted({str(request.partition_key) for request in requests} - known)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(reasons) or "nothing is new",
        dynamic_partitions_requests=[
            *([gguf_models.build_add_request(new)] if new else []),
            *([gguf_models.build_delete_request(sorted(known & set(gone)))] if gone else []),
        ],
        cursor=msgspec.json.encode(after).decode(),
    )


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[prepare_model],
    request_job=publish_model,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Checks and publishes what prepare_model has converted.",
)
def converted_models(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
    """A run of publish_model for the model of each run that has converted one."""
    run = context.dagster_run
    key = run.tags.get(PARTITION_TAG)
    if key is None:
        return dg.SkipReason("the run has no partition")
    return dg.RunRequest(run_key=run.run_id, partition_key=key, tags={CONVERSION_TAG: run.run_id})


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[publish_model],
    request_job=store_model,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Puts what publish_model has published into the storage, where one is set.",
)
def published_models(
    context: dg.RunStatusSensorContext, preparation: ModelPreparation
) -> dg.RunRequest | dg.SkipReason:
    """A run of store_model for the model of each run that has published one."""
    if not preparation.settings.storage:
        return dg.SkipReason("ROCMFORGE_STORAGE is not set")
    run = context.dagster_run
    key = run.tags.get(PARTITION_TAG)
    if key is None:
        return dg.SkipReason("the run has no partition")
    return dg.RunRequest(run_key=run.run_id, partition_key=key)


def _cursor(text: str | None) -> Cursor:
    """Return the last tick's cursor; an empty one for another build's format."""
    try:
        return msgspec.json.decode(text or "{}", type=Cursor)
    except msgspec.DecodeError:
        return Cursor()


def _look(path: Path, before: SeenFile | None) -> SeenFile | None:
    """Return the file's current state and for how long it has been so; None if it is gone."""
    try:
        found = [piece.stat() for piece in pieces_of(path)]
    except (OSError, GGUFError):
        return None
    now = SeenFile(
        size=sum(status.st_size for status in found),
        modified_ns=max(status.st_mtime_ns for status in found),
        path=str(path.resolve()),
    )
    if before is not None and (before.size, before.modified_ns) == (now.size, now.modified_ns):
        now.unchanged_ticks = before.unchanged_ticks + 1
        now.is_requested = before.is_requested
    return now


def _is_truncated(path: Path) -> bool:
    try:
        GGUFFile.open(path)
    except TruncatedGGUF:
        return True
    except Exception:  # the run reports what is wrong with it
        return False
    return False


def _retire(context: dg.SensorEvaluationContext, registry: Registry, path: Path) -> None:
    """Retire the model of a file that is gone, unless it was last made from another file."""
    current = registry.current(model_name(path))
    if current is not None and current.manifest.weights.path == str(path):
        registry.retire(current.name)
        context.log.info(f"{path} is gone: {current.name} is retired")
