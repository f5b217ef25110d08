"""Answers of llama.cpp's /completion and /infill, whole or as events.

Source of names and meanings: tools/server of llama.cpp.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from api import sse
from api.active_request import ActiveRequest
from api.completions import Usage
from api.dialects.llama_cpp.generation_settings import generation_settings
from api.dialects.llama_cpp.request import LlamaCppRequest
from api.error_bodies import LlamaCppError, LlamaCppErrorBody
from api.errors import GenerationFailed
from api.logprobs import echoed
from api.openai_answer import ChoiceReader, OpenAIWriter
from runtime.finite_json import finite_json
from runtime.generation import FinishReason, Generation, TokenOutput
from runtime.sampling import TokenLogprobs

STOP_TYPES = {FinishReason.EOS: "eos", FinishReason.STOP: "eos", FinishReason.LENGTH: "limit"}
"""llama.cpp's `stop_type` of an end that is no stop string's."""
NO_SLOT = -1
"""`id_slot`: requests have no fixed slots here."""
MILLISECOND_NS = 1e6


class Timings(msgspec.Struct, frozen=True):
    """How long a request took; times in milliseconds, rates in tokens a second."""

    cache_n: int
    """Tokens of the prompt that were known."""
    prompt_n: int
    """Tokens of the prompt that were computed."""
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float

    @classmethod
    def of(cls, generation: Generation, predicted: int) -> "Timings":
        """Return the timings of a request so far, with this number of tokens."""
        timings, known = generation.timings, generation.prefix_hit_tokens
        computed = len(generation.prompt_tokens) - known
        started, first = timings.started_ns, timings.first_token_ns
        last = timings.so_far_ns()
        prompt_ms = (first - started) / MILLISECOND_NS if started and first else 0.0
        predicted_ms = (last - first) / MILLISECOND_NS if first else 0.0
        return cls(
            known,
            computed,
            prompt_ms,
            _ratio(prompt_ms, computed),
            _ratio(computed * 1000, prompt_ms),
            predicted,
            predicted_ms,
            _ratio(predicted_ms, predicted),
            _ratio(predicted * 1000, predicted_ms),
        )


class Probability(msgspec.Struct, frozen=True):
    """A token that is possible in one place."""

    id: int
    token: str
    bytes: list[int]
    logprob: float


class TokenProbability(Probability, frozen=True):
    """A token of an answer, and the likeliest in its place."""

    top_logprobs: list[Probability]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a stream that is not the last."""

    index: int
    content: str
    tokens: list[int]
    stop: bool = False
    id_slot: int = NO_SLOT
    tokens_predicted: int
    tokens_evaluated: int
    """Tokens of the prompt."""
    timings: Timings | msgspec.UnsetType = msgspec.UNSET
    completion_probabilities: list[TokenProbability] | msgspec.UnsetType = msgspec.UNSET


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or the last event of a stream."""

    index: int
    content: str
    """Empty in a stream, whose events had the text."""
    tokens: list[int]
    id_slot: int = NO_SLOT
    stop: bool = True
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    generation_settings: dict[str, Any]
    prompt: str
    has_new_line: bool
    truncated: bool = False
    """Never: a prompt that does not fit is refused."""
    stop_type: str
    """eos, word, limit, or none for a request that was cancelled."""
    stopping_word: str
    tokens_cached: int
    """Tokens of the prompt that were known."""
    timings: Timings
    completion_probabilities: list[TokenProbability] | msgspec.UnsetType = msgspec.UNSET


class CompletionReader(ChoiceReader):
    """Reads the answer to one prompt. Owned by one thread."""

    def __init__(self, active: ActiveRequest, wanted: LlamaCppRequest, place: int) -> None:
        super().__init__(active, wanted, place)
        self._wanted = wanted
        self._model = active.model
        self._prompt = wanted.generate.prompts[place // wanted.generate.choices]
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprobs] = []

    def take(self, output: TokenOutput) -> None:
        """Add an output of an answer that is not streamed."""
        before = self.text.token_count
        self._texts.append(self.text.add(output))
        if output.token is not None and self.text.token_count > before:
            self._tokens.append(output.token)
        self._logprobs += self.added_logprobs(before)

    def whole(self) -> Completion:
        """Return the whole answer."""
        tokens = self._tokens if self._wanted.return_tokens else []
        return self._completion("".join(self._texts), tokens, self._probabilities(self._logprobs))

    def chunks(self, output: TokenOutput) -> Iterator[Event | Completion]:
        """Return the event of a token, and at the end the last."""
        before = self.text.token_count
        text = self.text.add(output)
        if "\n" in text:
            self._texts = ["\n"]
        counted = self.text.token_count > before
        if text or counted:
            yield Event(
                index=self.index,
                content=text,
                tokens=[output.token] if counted and output.token is not None else [],
                tokens_predicted=self.text.token_count,
                tokens_evaluated=len(self.generation.prompt_tokens),
                timings=self._timings() if self._wanted.timings_per_token else msgspec.UNSET,
                completion_probabilities=self._probabilities(self.added_logprobs(before)),
            )
        if output.finish_reason is not None:
            yield self._completion("", [], msgspec.UNSET)

    def _completion(
        self,
        content: str,
        tokens: list[int],
        probabilities: list[TokenProbability] | msgspec.UnsetType,
    ) -> Completion:
        generation, wanted = self.generation, self._wanted
        reason = generation.finish_reason or FinishReason.CANCELLED
        return Completion(
            index=self.index,
            content=content,
            tokens=tokens,
            model=self._model.name,
            tokens_predicted=self.text.token_count,
            tokens_evaluated=len(generation.prompt_tokens),
            generation_settings=generation_settings(
                wanted.generate, generation.sampling, stream=wanted.stream
            ),
            prompt=self._shown_prompt(),
            has_new_line=any("\n" in text for text in self._texts),
            stop_type="word" if self.text.stopped else STOP_TYPES.get(reason, "none"),
            stopping_word=self.text.found_stop or "",
            tokens_cached=generation.prefix_hit_tokens,
            timings=self._timings(),
            completion_probabilities=probabilities,
        )

    def _timings(self) -> Timings:
        return Timings.of(self.generation, self.text.token_count)

    def _probabilities(
        self, entries: Sequence[TokenLogprobs]
    ) -> list[TokenProbability] | msgspec.UnsetType:
        if not entries:
            return msgspec.UNSET
        return [
            TokenProbability(
                *self._possible(entry.token, entry.logprob),
                [
                    Probability(*self._possible(token, logprob))
                    for token, logprob in zip(
                        entry.top_tokens[: self.shown.answer].tolist(),
                        entry.top_logprobs.tolist(),
                        strict=False,
                    )
                ],
            )
            for entry in entries
        ]

    def _possible(self, token: int, logprob: float) -> tuple[int, str, list[int], float]:
        tokenizer = self._model.tokenizer
        known = token < tokenizer.vocabulary_size
        piece = tokenizer.token_piece(token) if known else b""
        return token, piece.decode("utf-8", "replace"), list(piece), logprob

    def _shown_prompt(self) -> str:
        """Return the prompt as text, with control tokens by name."""
        return echoed(self._prompt, self.generation.prompt_tokens, self._model.tokenizer)[0]


class CompletionsWriter(OpenAIWriter[CompletionReader]):
    """Writes the answers to the prompts of a request. Owned by one thread."""

    done = b""

    def __init__(self, active: ActiveRequest, wanted: LlamaCppRequest) -> None:
        self._fields = wanted.response_fields
        self._request = wanted
        super().__init__(active, wanted, "")

    def _reader(self, place: int) -> CompletionReader:
        return CompletionReader(self._active, self._request, place)

    def _whole(self, choices: Sequence[Any], usage: Usage) -> Any:
        answers = [self._chosen(choice) for choice in choices]
        return answers[0] if len(answers) == 1 else answers

    def _chunk(
        self, choices: Sequence[Any], usage: Usage | msgspec.UnsetType | None
    ) -> msgspec.Struct | dict[str, Any]:
        (choice,) = choices
        return self._chosen(choice)

    def _chosen(self, answer: Event | Completion) -> msgspec.Struct | dict[str, Any]:
        """Return the fields of an answer that are wanted; all of an event before the last."""
        if not self._fields or isinstance(answer, Event):
            return answer
        whole = msgspec.json.decode(finite_json(answer))
        chosen: dict[str, Any] = {}
        for path in self._fields:
            value = whole
            for name in path.split("/"):
                if not isinstance(value, dict) or name not in value:
                    break
                value = value[name]
            else:
                chosen[path] = value
        return chosen

    def _error(self, message: str) -> bytes:
        return sse.event_bytes(LlamaCppErrorBody(LlamaCppError.of(GenerationFailed.code, message)))


def _ratio(of: float, to: float) -> float:
    return of / to if to else 0.0
