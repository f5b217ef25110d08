"""Checks requests: the length of the prompt, token ids and token counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.generation import EngineRequest
from runtime.sampling import SamplingParameters


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of an engine's requests. Immutable."""

    vocabulary_size: int
    """Number of tokens in the model's vocabulary."""
    trained_context_length: int
    """Maximum number of tokens that the model supports."""
    cache_tokens: int
    """Number of tokens that fit into the KV cache."""

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of one request, prompt and answer together."""
        return min(self.trained_context_length, self.cache_tokens)

    def check(self, request: EngineRequest) -> None:
        """Raise InvalidRequest or ContextLengthExceeded for a request that no engine could run."""
        sampling = request.sampling
        self.check_prompt(request.prompt_tokens, answered=request.max_tokens > 0)
        if request.max_tokens < 0:
            raise InvalidRequest("max_tokens must not be negative")
        if sampling.min_tokens > request.max_tokens:
            raise InvalidRequest("min_tokens must not be above max_tokens", field="min_tokens")
        self._check_token_ids(sampling)

    def check_prompt(self, tokens: Sequence[int], *, answered: bool = True) -> None:
        """Raise InvalidRequest or ContextLengthExceeded for a prompt that cannot be computed.

        answered: whether tokens are to be generated after it.
        """
        if not tokens:
            raise InvalidRequest("the prompt has no tokens; send at least one character")
        self.check_prompt_length(len(tokens), answered=answered)
        if not (min(tokens) >= 0 and max(tokens) < self.vocabulary_size):
            raise InvalidRequest(f"a token id is not between 0 and {self.vocabulary_size - 1}")

    def check_prompt_length(
        self, tokens: int, *, at_least: bool = False, answered: bool = True
    ) -> None:
        """Raise ContextLengthExceeded if a prompt of this length fills the context.

        at_least: whether the prompt may be longer. A prompt that is not `answered` may fill it.
        """
        if tokens + answered > self.context_length:
            raise ContextLengthExceeded(
                self._overflow(f"at least {tokens}" if at_least else str(tokens))
            )

    def _check_token_ids(self, sampling: SamplingParameters) -> None:
        """Raise InvalidRequest if a parameter's token id is not in the model's vocabulary."""
        named = {
            "logit_bias": {token for token, _ in sampling.logit_bias},
            "stop_token_ids": sampling.stop_token_ids,
        }
        for name, tokens in named.items():
            if tokens and not (min(tokens) >= 0 and max(tokens) < self.vocabulary_size):
                raise InvalidRequest(
                    f"a token id of {name} is not between 0 and {self.vocabulary_size - 1}",
                    field=name,
                )

    def _overflow(self, prompt_length: str) -> str:
        """Return why a prompt does not fit; it begins with words that clients look for."""
        says = f"This model's maximum context length is {self.context_length} tokens"
        if self.cache_tokens < self.trained_context_length:
            says += (
                " here, for the KV cache holds no more (--cache-tokens; the model itself takes "
                f"{self.trained_context_length})"
            )
        return (
            f"{says}; the prompt has {prompt_length} tokens and leaves no room for an answer: "
            "shorten it"
        )
