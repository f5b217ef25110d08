"""Answers of OpenAI's completions, whole or in chunks; each request of the engine is a choice."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from api import sse
from api.active_request import ActiveRequest
from api.answer_text import AnswerText
from api.completions import OpenAIRequest, TokenDetails, Usage
from api.error_bodies import OpenAIError, OpenAIErrorBody
from api.errors import INTERNAL_ERROR, GenerationFailed
from api.generation_state import text_decoder
from api.logprobs import LogprobShapes
from api.response_writer import ResponseWriter
from runtime.generation import FinishReason, TokenOutput
from runtime.sampling import TokenLogprobs

DONE = b"data: [DONE]\n\n"


class ChoiceReader(ABC):
    """Reads the outputs of one request as one choice of an answer. Owned by one thread."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest, index: int) -> None:
        """index: of the answer among those of the request."""
        self.index = index
        self.generation = active.generations.each[index]
        self.finish = partial(active.finish, index)
        """Ends the request as stopped."""
        tokenizer = active.model.tokenizer
        decoder = text_decoder(tokenizer, wanted.generate.stops, self._shown())
        self.text = AnswerText(self.generation, decoder, self.finish)
        self.shown = wanted.shown
        self.shapes = LogprobShapes(tokenizer, wanted.shown)

    def _shown(self) -> Iterable[str]:
        """Texts with the names of control tokens that belong to the answer."""
        return ()

    @property
    def may_finish(self) -> bool:
        """Whether the request may be finished for its calls."""
        return False

    @abstractmethod
    def take(self, output: TokenOutput) -> None:
        """Add an output of an answer that is not streamed."""

    @abstractmethod
    def whole(self) -> msgspec.Struct:
        """Return the whole choice, after its last output."""

    @abstractmethod
    def chunks(self, output: TokenOutput) -> Iterable[msgspec.Struct]:
        """The choices of the chunks that an output adds to a stream.

        Tokens after a stop string, computed before the engine ended the request, add none.
        """

    def added_logprobs(self, before: int) -> list[TokenLogprobs]:
        """Logprobs of the tokens that the text took in after the first `before`."""
        if self.shown.answer is None:
            return []
        return self.generation.logprobs[before : self.text.token_count]

    @property
    def prompt_logprobs(self) -> list[TokenLogprobs]:
        """Logprobs of the prompt's tokens after its first."""
        return (self.generation.leader or self.generation).prompt_logprobs

    @property
    def mean_logprob(self) -> float:
        """The mean logprob of the text's tokens: how likely it is, whatever its length."""
        found = self.generation.logprobs[: self.text.token_count]
        return sum(each.logprob for each in found) / len(found) if found else -math.inf

    @property
    def finish_reason(self) -> str | None:
        """Why the text ends; OpenAI has one word for stops and end tokens."""
        reason = self.text.finish_reason
        return FinishReason.STOP if reason is FinishReason.EOS else reason


Reader = TypeVar("Reader", bound=ChoiceReader)


class OpenAIWriter(ResponseWriter, Generic[Reader]):
    """Turns the outputs of a request into an answer or its chunks. Owned by one thread."""

    done = DONE
    """What ends a stream."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest, name: str) -> None:
        super().__init__(active, wanted)
        self._name = name
        self._created = int(time.time())  # noqa: TID251
        self._readers = [self._reader(index) for index in range(len(active.generations.each))]

    def answer(self) -> Any:
        """Wait for the end of every choice and give them. Raises GenerationFailed."""
        generations = self._active.generations
        reader = self._readers[0]
        if len(self._readers) == 1 and not self._wanted.generate.stops and not reader.may_finish:
            # Nothing is to be decided before the end, so this thread need not wake for each token.
            generations.each[0].wait()
        while (told := generations.next_output()) is not None:
            index, output = told
            reader = self._readers[index]
            reader.take(output)
            if output.finish_reason is not None and reader.text.failure is not None:
                raise GenerationFailed(reader.text.failure)
            if generations.ended:
                break
        return self._whole([reader.whole() for reader in self._given()], self._usage())

    def _given(self) -> list[Reader]:
        """The readers of the answers that are given: the likeliest of those to each prompt."""
        made, n = self._wanted.generate.choices, self._wanted.n
        if made == n:
            return self._readers
        given: list[Reader] = []
        for first in range(0, len(self._readers), made):
            answers = self._readers[first : first + made]
            given += sorted(answers, key=lambda answer: -answer.mean_logprob)[:n]
        for index, reader in enumerate(given):
            reader.index = index
        return given

    def __call__(self, index: int, output: TokenOutput) -> bytes:
        """The chunks of one output: one for each token, and at the end usage and [DONE].

        The first choice that fails ends the stream with its error.
        """
        reader = self._readers[index]
        events = b"".join(
            sse.event_bytes(self._chunk((choice,), self._usage_of_chunks))
            for choice in reader.chunks(output)
        )
        if output.finish_reason is not None and reader.text.failure is not None:
            self.ended = True
            return self._error(reader.text.failure)
        if not self._active.generations.ended:
            return events
        self.ended = True
        if self._wanted.include_usage:
            events += sse.event_bytes(self._chunk((), self._usage()))
        return events + self.done

    def failure(self) -> bytes:
        """The end of a stream whose text cannot be made."""
        return self._error(INTERNAL_ERROR)

    def _error(self, message: str) -> bytes:
        error = OpenAIErrorBody(OpenAIError.of(GenerationFailed.code, message))
        return sse.event_bytes(error) + self.done

    @abstractmethod
    def _reader(self, index: int) -> Reader:
        """Return the reader of the outputs of the request at this index."""

    @abstractmethod
    def _whole(self, choices: Sequence[Any], usage: Usage) -> Any:
        """The answer that is not streamed."""

    @abstractmethod
    def _chunk(
        self, choices: Sequence[Any], usage: Usage | msgspec.UnsetType | None
    ) -> msgspec.Struct | dict[str, Any]:
        """One chunk of a stream."""

    @property
    def _usage_of_chunks(self) -> msgspec.UnsetType | None:
        """Usage in all chunks before the last."""
        return None if self._wanted.include_usage else msgspec.UNSET

    def _usage(self) -> Usage:
        """The token counts: each prompt counts once, and every answer to it."""
        prompts = [r.generation for r in self._readers if r.generation.leader is None]
        prompt_count = sum(len(generation.prompt_tokens) for generation in prompts)
        answer_count = sum(reader.text.token_count for reader in self._readers)
        return Usage(
            prompt_count,
            answer_count,
            prompt_count + answer_count,
            TokenDetails(sum(map(self._active.known_tokens, prompts))),
        )
