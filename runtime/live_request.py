"""A request that the engine computes: its handle, tokens, sampler, grammar and thought limit."""

from dataclasses import dataclass

from runtime.drafts import PromptLookup
from runtime.generation import FinishReason, Generation
from runtime.sampling import Sampler
from runtime.sequence import Sequence
from runtime.thought_limit import ThoughtLimit


@dataclass(slots=True)
class LiveRequest:
    """A request in the engine. Owned by the engine thread."""

    generation: Generation
    sequence: Sequence
    sampler: Sampler
    thought_limit: ThoughtLimit | None
    end_tokens: frozenset[int]
    """Tokens that end it, in addition to its stop_token_ids."""

    @classmethod
    def begin(
        cls, generation: Generation, end_of_generation: frozenset[int], drafts: PromptLookup | None
    ) -> "LiveRequest":
        """Return the state of a submitted request, whose matcher and thought limit it takes over.

        end_of_generation: the model's end tokens. drafts: guesses its next tokens, if given.
        """
        matcher, generation.matcher = generation.matcher, None
        limit, generation.thought_limit = generation.thought_limit, None
        sequence = Sequence(
            generation.request_id,
            list(generation.prompt_tokens),
            drafts,
            matcher,
            generates=generation.max_tokens > 0,
            scores_prompt=generation.prompt_top_logprobs is not None,
            salt=generation.cache_salt,
        )
        ends = frozenset() if generation.ignore_eos else end_of_generation
        # With a grammar, only the grammar decides where an answer may end.
        sampler = Sampler(
            generation.sampling,
            generation.prompt_tokens,
            ends if matcher is None else frozenset(),
        )
        return cls(generation, sequence, sampler, limit, ends)

    def follow(self, token: int) -> None:
        """Take in the next token, whatever chose it: a draw, the grammar or the thought limit."""
        self.sampler.accept(token)
        if self.sequence.matcher is not None:
            self.sequence.matcher.advance(token)
        if self.thought_limit is not None:
            self.thought_limit.accept(token)

    def ending(self, tokens: list[int]) -> FinishReason | None:
        """Return why the request ends with the last of its next tokens, or None."""
        generation, matcher = self.generation, self.sequence.matcher
        if tokens[-1] in self.end_tokens:
            return FinishReason.EOS
        if tokens[-1] in generation.sampling.stop_token_ids:
            return FinishReason.STOP
        if matcher is not None and matcher.ended:
            return FinishReason.STOP
        ends = generation.token_count + len(tokens) >= generation.max_tokens
        return FinishReason.LENGTH if ends else None
