"""Watches the folder of GGUF files: what is new is prepared, what is gone is retired."""

from pathlib import Path

import dagster as dg
import msgspec

from pipelines.assets import PARTITIONS, gguf_models
from pipelines.jobs import prepare_model
from pipelines.resources import ModelPreparation
from runtime.registry import Registry, model_name


class SeenFile(msgspec.Struct):
    """A file as a tick of the sensor saw it."""

    size: int
    modified_ns: int
    is_requested: bool = False
    """Whether a run was asked for at this size and time."""
    is_missing: bool = False


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
    """Compare the folder with what the last tick saw, which is the cursor.

    A file is prepared when two ticks see the same size and time, so one that is being copied waits.
    Only files that were seen here are retired, when two ticks miss them: a folder that is not
    there at all, such as a disk that is not mounted, retires nothing.
    """
    folder = preparation.settings.incoming_folder
    if not folder.is_dir():
        return dg.SkipReason(f"{folder} does not exist; put GGUF files there")
    seen = msgspec.json.decode(context.cursor or "{}", type=dict[str, SeenFile])
    now = {key: _look(preparation.gguf(key)) for key in preparation.partition_keys()}
    known = set(context.instance.get_dynamic_partitions(PARTITIONS))
    requests: list[dg.RunRequest] = []
    cursor: dict[str, SeenFile] = {}
    for key, file in now.items():
        if file is None:
            continue
        before = seen.get(key)
        cursor[key] = file
        if before is not None and (before.size, before.modified_ns) == (
            file.size,
            file.modified_ns,
        ):
            if not before.is_requested:
                requests.append(
                    dg.RunRequest(run_key=f"{key}@{file.modified_ns}", partition_key=key)
                )
            file.is_requested = True
    gone: list[str] = []
    for key in seen.keys() - cursor.keys():
        if seen[key].is_missing:
            gone.append(key)
            _retire(context, preparation.registry, preparation.gguf(key))
        else:
            cursor[key] = msgspec.structs.replace(seen[key], is_missing=True)
    new = [request.partition_key for request in requests if request.partition_key not in known]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[
            *([gguf_models.build_add_request([key for key in new if key])] if new else []),
            *([gguf_models.build_delete_request(sorted(known & set(gone)))] if gone else []),
        ],
        cursor=msgspec.json.encode(cursor).decode(),
    )


def _look(path: Path) -> SeenFile | None:
    try:
        status = path.stat()
    except OSError:  # gone since the folder was listed, or a link to nothing
        return None
    return SeenFile(size=status.st_size, modified_ns=status.st_mtime_ns)


def _retire(context: dg.SensorEvaluationContext, registry: Registry, path: Path) -> None:
    """Withdraw the model of a file that is gone, unless it was last made of another file."""
    current = registry.current(model_name(path))
    if current is not None and current.manifest.weights.path == str(path.resolve()):
        registry.retire(current.name)
        context.log.info(f"{path} is gone: {current.name} is retired")
