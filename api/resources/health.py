"""GET /health and GET /ready."""

from typing import Any

import falcon

from api.error_handlers import answer_error
from api.health import health_of, works
from api.resources.readable import Readable
from api.served_models import GpuMemory, ModelStatus, ServedModel
from api.services import VERSION, Services
from runtime.finite_json import finite_json
from runtime.statistics import EngineStatistics

SERVICE = "rocmforge"
MEBIBYTE = 1 << 20


class HealthResource(Readable):
    """GET /health: state of the engine. A liveness probe restarts the server on 503."""

    scope = None

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Respond 503 if the engine died, hangs or failed to load, or its weights have changed.

        A restart may then help; for changed weights `checks.engine.reason` says what else does.
        """
        health = health_of(self._services)
        entries = self._services.pool.models
        loaded = (model for each in entries if (model := each.served.model) is not None)
        model = next(loaded, None)
        resp.status = 503 if health.broken else 200
        resp.data = finite_json(
            {
                "status": "healthy" if health.healthy else "unhealthy",
                "service": SERVICE,
                "version": VERSION,
                "checks": checks(model, self._services.statistics()),
            }
        )


class ReadyResource(Readable):
    """GET /ready: whether new requests are taken."""

    scope = None

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 503 while loading, while draining and without a working engine."""
        served = self._services.pool.models[0].served
        model, draining = served.model, self._services.draining.is_set()
        if served.status is ModelStatus.UNLOADED and not draining:
            resp.data = finite_json({"ready": True, "service": SERVICE})
        elif model is None or not works(model) or draining:
            changed = model.engine.weights_changed if model is not None else None
            if changed is None:
                answer_error(req, resp, "engine_unavailable", "Service Unavailable")
            else:
                answer_error(req, resp, changed.code, str(changed))
        else:
            resp.data = finite_json({"ready": True, "service": SERVICE})


def checks(model: ServedModel | None, now: EngineStatistics) -> dict[str, Any]:
    """Return the `checks` of /health; without an engine, no requests and no cache.

    `now`: the counts of all engines together, those included whose last requests still run.
    """
    found: dict[str, Any] = {
        "engine": {
            "running": model is not None and works(model),
            "model_loaded": model is not None,
        },
        "gpu": gpu_check(*(model.gpu_memory(), model.device_reason) if model else (None,)),
    }
    if model is not None and model.engine.weights_changed is not None:
        found["engine"]["reason"] = str(model.engine.weights_changed)
    if model is not None:
        found["model"] = {"name": model.name, "version": model.version}
        found["requests"] = {"active": now.active, "queued": now.queued}
        found["cache"] = {
            "pages_used": now.pages_used,
            "pages_total": now.pages_total,
            "pages_free": now.pages_free,
            "active_sequences": now.active_sequences,
        }
    return found


def gpu_check(memory: GpuMemory | None, device_reason: str = "") -> dict[str, Any]:
    """Return the GPU's part, with whole mebibytes and percent, rounded down."""
    reason = {"reason": device_reason} if device_reason else {}
    if memory is None:
        return {"available": False, **reason}
    used_bytes = memory.total_bytes - memory.free_bytes
    return {
        "available": True,
        **reason,
        "memory": {
            "free_bytes": memory.free_bytes,
            "total_bytes": memory.total_bytes,
            "free_mb": memory.free_bytes // MEBIBYTE,
            "total_mb": memory.total_bytes // MEBIBYTE,
            "used_mb": used_bytes // MEBIBYTE,
            "utilization_percent": used_bytes * 100 // max(1, memory.total_bytes),
        },
    }
