"""The sampling of a request, under llama.cpp's names."""

from typing import Any

from api.completions import NO_LIMIT, WHOLE_CONTEXT
from api.schemas import GenerateRequest
from runtime.sampling import SamplingParameters

RANDOM_SEED = 2**32 - 1
"""llama.cpp's seed of a request that gives none."""
SAME_NAME = (
    *("temperature", "dynatemp_range", "dynatemp_exponent", "top_k", "top_p", "min_p"),
    *("top_n_sigma", "xtc_probability", "xtc_threshold", "typical_p", "repeat_last_n"),
    *("presence_penalty", "frequency_penalty", "dry_multiplier", "dry_base"),
    *("dry_allowed_length", "dry_penalty_last_n"),
)


def sampling_settings(sampling: SamplingParameters, max_tokens: int) -> dict[str, Any]:
    """Return the parameters of a request, without any text of it."""
    limit = NO_LIMIT if max_tokens == WHOLE_CONTEXT else max_tokens
    return {
        "seed": RANDOM_SEED if sampling.seed is None else sampling.seed,
        **{name: getattr(sampling, name) for name in SAME_NAME},
        "repeat_penalty": sampling.repetition_penalty,
        "samplers": list(sampling.samplers),
        "max_tokens": limit,
        "n_predict": limit,
    }


def generation_settings(
    wanted: GenerateRequest, sampling: SamplingParameters, *, stream: bool
) -> dict[str, Any]:
    """Return the `generation_settings` of an answer."""
    return sampling_settings(sampling, wanted.max_tokens) | {
        "dry_sequence_breakers": list(sampling.dry_sequence_breakers),
        "stop": list(wanted.stops),
        "ignore_eos": wanted.ignore_eos,
        "stream": stream,
        "logit_bias": [{"token": token, "bias": bias} for token, bias in sampling.logit_bias],
        "n_probs": wanted.top_logprobs or 0,
        "min_keep": 0,
    }
