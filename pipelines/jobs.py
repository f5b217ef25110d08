"""The jobs: convert a model, check and publish it, store it, go back to an earlier version.

Converting and publishing are two jobs, since Dagster notes every check of a run when the run is
planned: all checks of a file that cannot be converted would be shown as failed, in place of
those of other models.
"""

import dagster as dg

from pipelines.assets import failures_shown, gguf_file, onnx_model, published_model
from pipelines.resources import ModelPreparation
from pipelines.storage_assets import pushed_version, stored_model
from runtime.errors import ModelNotFound
from runtime.registry import model_name

PUBLISHING_FIRST = {"dagster/priority": "1"}
"""Priority in the queue: publishing a converted model goes before the next conversion."""

prepare_model = dg.define_asset_job(
    "prepare_model",
    selection=dg.AssetSelection.assets(gguf_file, onnx_model).without_checks(),
    description="Convert a GGUF; the sensor converted_models then starts publish_model.",
)
publish_model = dg.define_asset_job(
    "publish_model",
    selection=dg.AssetSelection.checks_for_assets(onnx_model)
    | dg.AssetSelection.assets(published_model),
    description="Check a converted model against the exact model and publish it.",
    tags=PUBLISHING_FIRST,
)
store_model = dg.define_asset_job(
    "store_model",
    selection=dg.AssetSelection.assets(stored_model),
    description="Put a published model into the object storage that ROCMFORGE_STORAGE names.",
)


PLACEHOLDER = "NAME"


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
    """Make a version current, in the storage too; servers of the model take it over."""
    with failures_shown():
        if config.model == PLACEHOLDER:
            published = ", ".join(preparation.registry.names()) or "none"
            raise ModelNotFound(
                f"write a model's name for {PLACEHOLDER} in the launchpad; published: {published}"
            )
        model = preparation.registry.rollback(config.model, config.version)
        if preparation.settings.storage:
            pushed_version(model, preparation, context)
    context.log.info(f"{model.name} is version {model.version} now")
    files = preparation.incoming().files
    keys = [key for key, path in files.items() if model_name(path) == model.name]
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


# The default in the launchpad; null goes back to the version that was current before.
TO_FILL_IN = {"ops": {"point_to_version": {"config": {"model": PLACEHOLDER, "version": None}}}}


@dg.job(
    config=TO_FILL_IN,
    description="Make an earlier version of a published model the current one.",
)
def rollback_model() -> None:
    """Go back."""
    point_to_version()
