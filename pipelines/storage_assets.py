"""The asset stored_model: what is published, in the object storage that servers pull from."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from pipelines.assets import (
    GROUP,
    failures_shown,
    gguf_models,
    partition_key,
    published_model,
    published_name,
)
from pipelines.resources import ModelPreparation
from runtime.errors import ModelNotFound, SettingsError, StorageError
from runtime.registry import PublishedModel
from runtime.storage.push import Pushed, push
from runtime.storage.stores import open_store

AGAIN = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL)
"""A storage that is not reached may be so soon."""


@dg.asset(
    partitions_def=gguf_models,
    group_name=GROUP,
    kinds={"file"},
    deps=[published_model],
    retry_policy=AGAIN,
)
def stored_model(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """The current version in the storage that ROCMFORGE_STORAGE names, for servers elsewhere."""
    with failures_shown(), retried():
        name = published_name(partition_key(context))
        current = preparation.registry.current(name)
        if current is None:
            raise ModelNotFound(f"{name} is not published; materialize published_model first")
        pushed = pushed_version(current, preparation, context)
    return dg.MaterializeResult(
        metadata={
            "address": str(pushed.address),
            "version": current.version,
            "bytes_sent": pushed.sent_bytes,
            "weights_bytes": current.manifest.weights.size,
            "serve": dg.MetadataValue.md(
                f"`rocmforge serve {pushed.address.folder}/{pushed.address.name}`"
            ),
        },
        data_version=dg.DataVersion(current.manifest.weights.sha256),
    )


def pushed_version(
    model: PublishedModel,
    preparation: ModelPreparation,
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
) -> Pushed:
    """Put a version into the storage of the settings, with its steps in the log of the run."""
    folder = preparation.settings.storage
    if not folder:
        raise SettingsError("there is no storage to push to; set ROCMFORGE_STORAGE to its URL")
    return push(open_store(folder), model, context.log.info)


@contextmanager
def retried() -> Iterator[None]:
    """Let Dagster try again, by the policy of the asset, where the storage is not reached."""
    try:
        yield
    except StorageError as error:
        raise dg.Failure(description=str(error), allow_retries=True) from None
