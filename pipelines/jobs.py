"""The jobs that a person or a sensor starts: prepare a model, go back to an earlier version."""

import dagster as dg

from pipelines.assets import failures_shown, gguf_file, onnx_model, published_model
from pipelines.resources import ModelPreparation
from runtime.registry import model_name

prepare_model = dg.define_asset_job(
    "prepare_model",
    selection=dg.AssetSelection.assets(gguf_file, onnx_model, published_model),
    description="Convert a GGUF, check it against the exact model and publish it.",
)


class Rollback(dg.Config):
    """Which version is to be current."""

    model: str
    """Its published name."""
    version: int | None = None
    """By default the one before the current; of a retired model the newest."""


@dg.op
def point_to_version(
    context: dg.OpExecutionContext, config: Rollback, preparation: ModelPreparation
) -> None:
    """Make a version current; servers of the model take it over while they run."""
    with failures_shown():
        model = preparation.registry.rollback(config.model, config.version)
    context.log.info(f"{model.name} is version {model.version} now")
    keys = [
        key
        for key in preparation.partition_keys()
        if model_name(preparation.gguf(key)) == model.name
    ]
    context.log_event(
        dg.AssetObservation(
            published_model.key,
            partition=keys[0] if keys else None,
            description=f"rolled back to version {model.version}",
            metadata={
                "name": model.name,
                "version": model.version,
                "folder": dg.MetadataValue.path(model.folder),
            },
        )
    )


# The Launchpad opens with it; null goes back by one.
TO_FILL_IN = {"ops": {"point_to_version": {"config": {"model": "NAME", "version": None}}}}


@dg.job(
    config=TO_FILL_IN,
    description="Make an earlier version of a published model the current one.",
)
def rollback_model() -> None:
    """Go back."""
    point_to_version()
