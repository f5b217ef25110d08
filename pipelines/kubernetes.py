"""Tags for a run's pod in a Kubernetes cluster. Without a cluster they do nothing."""

import json

from runtime.settings import Settings

CONTAINER = "dagster-k8s/config"
GPU = "amd.com/gpu"
"""The resource that AMD's device plugin offers."""


def gpu_tags(settings: Settings) -> dict[str, str]:
    """Tags of a job that runs the model: a GPU for its pod, if the device is to be one."""
    if settings.device != "rocm":
        return {}
    limits = {"resources": {"limits": {GPU: "1"}}}
    return {CONTAINER: json.dumps({"container_config": limits})}
