"""Offers new GGUF files as partitions, so that a person can pick them in the UI."""

import dagster as dg

from pipelines.assets import PARTITIONS, gguf_models
from pipelines.resources import ModelPreparation


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition for every new GGUF file in the incoming folder; starts no run.",
)
def gguf_files(
    context: dg.SensorEvaluationContext, preparation: ModelPreparation
) -> dg.SensorResult | dg.SkipReason:
    """Add a partition for every GGUF file that has none."""
    known = set(context.instance.get_dynamic_partitions(PARTITIONS))
    new = [key for key in preparation.partition_keys() if key not in known]
    if not new:
        return dg.SkipReason(f"no new file in {preparation.settings.incoming_folder}")
    return dg.SensorResult(dynamic_partitions_requests=[gguf_models.build_add_request(new)])
