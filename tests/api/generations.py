"""Requests as an engine leaves them, for tests that need no engine."""

from dataclasses import replace

from runtime.generation import FinishReason, Generation, TokenOutput
from runtime.sampling import SamplingParameters

SECOND = 1_000_000_000
SUBMITTED = 1_705_689_600 * SECOND
"""Nanoseconds since 1970."""
SUBMITTED_MONOTONIC = 5 * SECOND


def running(
    request_id: int = 1, prompt: tuple[int, ...] = (5, 6, 7), *, context: object = None
) -> Generation:
    """A request that was just submitted."""
    return Generation(request_id, prompt, SamplingParameters(), max_tokens=10, context=context)


def ended(
    request_id: int = 1,
    reason: FinishReason = FinishReason.LENGTH,
    *,
    tokens: tuple[int, ...] = (10, 11),
    queue: float | None = 0.5,
    prefill: float | None = 0.25,
    decode: float = 2.0,
    error: str | None = None,
    context: object = None,
) -> Generation:
    """A request with phases of these seconds; None: it did not reach the phase."""
    generation = running(request_id, context=context)
    for token in tokens:
        generation.append(token)
    generation.finish(reason, error)
    now = SUBMITTED_MONOTONIC
    started = first_token = None
    if queue is not None:
        now = started = now + round(queue * SECOND)
        if prefill is not None:
            now = first_token = now + round(prefill * SECOND)
    generation.timings = replace(
        generation.timings,
        submitted_ns=SUBMITTED_MONOTONIC,
        submitted_unix_ns=SUBMITTED,
        started_ns=started,
        first_token_ns=first_token,
        finished_ns=now + round(decode * SECOND),
    )
    return generation


def publish(generation: Generation, *tokens: int, reason: FinishReason | None = None) -> None:
    """Publish tokens as the engine does; the last one ends the request if there is a reason."""
    for index, token in enumerate(tokens):
        last = reason if index == len(tokens) - 1 else None
        generation.append(token)
        if last is not None:
            generation.finish(last)
        generation.publish(TokenOutput(token, last))
