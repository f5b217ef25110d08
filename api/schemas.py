"""Bodies of requests and answers, as the API document gives them."""

from typing import Any

import msgspec

from runtime.errors import InvalidRequest
from runtime.generation import FinishReason
from runtime.sampler import SamplingParameters

Number = int | float
LARGEST_SEED = 2**64 - 1


def _whole(name: str, value: Number, least: int) -> int:
    """An integer of at least `least`; 10.0 is one, 10.5 is not."""
    if value != int(value):
        raise InvalidRequest(f"{name} must be a whole number, not {value}")
    if value < least:
        raise InvalidRequest(f"{name} must be at least {least}, not {value}")
    return int(value)


def _between(name: str, value: Number, least: float, most: float) -> float:
    if not least <= value <= most:
        raise InvalidRequest(f"{name} must be between {least} and {most}, not {value}")
    return float(value)


class GenerateBody(msgspec.Struct, frozen=True):
    """JSON body of both generate routes. null means the default; unknown keys are ignored."""

    prompt: str
    max_tokens: Number | None = None
    temperature: Number | None = None
    top_k: Number | None = None
    top_p: Number | None = None
    seed: Number | None = None
    """Our extension: fixes the draws of a sampled request."""
    stream: bool | None = None
    """Ignored; the route decides."""


class GenerateRequest(msgspec.Struct, frozen=True):
    """What a client asked for, checked and with the defaults filled in."""

    prompt: str
    max_tokens: int
    sampling: SamplingParameters

    @classmethod
    def parse(cls, body: bytes) -> "GenerateRequest":
        """Read a request body.

        Raises InvalidRequest naming the field that does not fit.
        """
        given = _decode(body)
        default = SamplingParameters()
        seed = None if given.seed is None else _whole("seed", given.seed, 0)
        if seed is not None and seed > LARGEST_SEED:
            raise InvalidRequest(f"seed must be at most {LARGEST_SEED}")
        return cls(
            given.prompt,
            100 if given.max_tokens is None else _whole("max_tokens", given.max_tokens, 1),
            SamplingParameters(
                temperature=default.temperature
                if given.temperature is None
                else _between("temperature", given.temperature, 0.0, 2.0),
                top_k=default.top_k if given.top_k is None else _whole("top_k", given.top_k, 1),
                top_p=default.top_p
                if given.top_p is None
                else _between("top_p", given.top_p, 0.0, 1.0),
                seed=seed,
            ),
        )


def _decode(body: bytes) -> GenerateBody:
    try:
        return msgspec.json.decode(body, type=GenerateBody)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the request body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the request body cannot be read as JSON: {error}") from None


class GenerateAnswer(msgspec.Struct, frozen=True):
    """State of a request, as /generate, /status and /cancel give it."""

    request_id: int
    text: str
    tokens: tuple[int, ...]
    finished: bool
    finish_reason: FinishReason | None


class RunningRequest(msgspec.Struct, frozen=True):
    """One line of GET /requests."""

    request_id: int
    x_request_id: str
    """The X-Request-Id header of the HTTP request that started it."""
    state: str
    """queued or active."""
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    """Since it was submitted."""


class DiscoveredModel(msgspec.Struct, frozen=True):
    """One entry of GET /models."""

    path: str
    size: int
    metadata: dict[str, Any]
    """Raw GGUF scalars; empty for a file that cannot be read."""
