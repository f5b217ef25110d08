"""What the monitoring data says of a request beyond what its engine knows."""

from dataclasses import dataclass

from opentelemetry.context import Context

from runtime.generation import Generation


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The model that a request asks, its API key, and its caller's trace. Immutable."""

    model: str
    """Name of the served model, whatever alias the request gave."""
    key: str | None = None
    """Name of the API key; None where keys are off."""
    parent: Context | None = None
    """The caller's span; None without one."""
    operation: str = "text_completion"
    """As OpenTelemetry's conventions name it."""


def context_of(generation: Generation) -> RequestContext | None:
    """Return the context that a request was submitted with; None without one."""
    context = generation.context
    return context if isinstance(context, RequestContext) else None
