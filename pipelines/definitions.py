"""The entry point for workspace.yaml: one `dg.Definitions` per part, and the shared resources."""

from collections.abc import Callable

import dagster as dg

from pipelines.assets import gguf_file, onnx_model, published_model
from pipelines.checks import onnx_model_checks
from pipelines.jobs import prepare_model, publish_model, rollback_model, store_model
from pipelines.resources import ModelPreparation
from pipelines.schedules import regression
from pipelines.sensors import converted_models, gguf_files, published_models
from pipelines.storage_assets import stored_model


def preparation() -> dg.Definitions:
    """From a GGUF to a published model, and into a storage."""
    return dg.Definitions(
        assets=[gguf_file, onnx_model, published_model, stored_model],
        asset_checks=[onnx_model_checks],
        jobs=[prepare_model, publish_model, store_model, rollback_model],
        sensors=[gguf_files, converted_models, published_models],
    )


PARTS: tuple[Callable[[], dg.Definitions], ...] = (preparation, regression)


@dg.definitions
def definitions() -> dg.Definitions:
    """Everything, run step by step in the run's own process."""
    shared = dg.Definitions(
        resources={"preparation": ModelPreparation()}, executor=dg.in_process_executor
    )
    return dg.Definitions.merge(shared, *(part() for part in PARTS))
