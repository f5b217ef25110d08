"""Whether the served models work, as /health, /ready and the service manager show it."""

from dataclasses import dataclass

from api.served_models import ModelStatus, ServedModel
from api.services import Services


@dataclass(frozen=True, slots=True)
class Health:
    """The state of all engines. Immutable."""

    healthy: bool
    """Whether a model is loaded, or was and may be again, and the engines get on."""
    broken: bool
    """Whether a restart may help: an engine died, hangs or failed to load."""


def health_of(services: Services) -> Health:
    """Return the state of the engines, of which a server without a model has none."""
    entries = services.pool.models
    loaded = [model for each in entries if (model := each.served.model) is not None]
    if not loaded:
        status = entries[0].served.status
        return Health(status is ModelStatus.UNLOADED, status is ModelStatus.FAILED)
    healthy = all(map(works, loaded))
    if services.draining.is_set():
        # An engine that was stopped on request is no fault.
        return Health(healthy, any(one.engine.stalled or one.engine.failure for one in loaded))
    return Health(healthy, not healthy)


def works(model: ServedModel) -> bool:
    """Whether the model's engine runs and gets on."""
    engine = model.engine
    return engine.running and not engine.stalled and engine.failure is None
