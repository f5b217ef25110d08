"""The one answer of a chat, whole or as events, in whatever form a dialect gives it."""

from abc import abstractmethod
from typing import Any

from api.active_request import ActiveRequest
from api.answer_options import AnswerOptions
from api.chat_answer import Addition
from api.completions import OpenAIRequest
from api.errors import INTERNAL_ERROR, GenerationFailed
from api.resources.chat import ChatReader
from api.response_writer import ResponseWriter
from runtime.generation import TokenOutput


class TurnWriter(ResponseWriter):
    """Writes the answer of a request with one prompt and one choice. Owned by one thread."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest) -> None:
        super().__init__(active, wanted)
        options = wanted.generate.options or AnswerOptions()
        self._reader = ChatReader(active, wanted, 0, options)
        self._begun = False

    def answer(self) -> Any:
        """Wait for the end and return the whole answer. Raises GenerationFailed."""
        generation = self._active.generation
        if not self._wanted.generate.stops and not self._reader.may_finish:
            # Nothing is to be decided before the end, so this thread need not wake for each token.
            generation.wait()
        while (output := generation.next_output()) is not None:
            self._reader.additions(output)
            if output.finish_reason is not None:
                break
        if self._reader.text.failure is not None:
            raise GenerationFailed(self._reader.text.failure)
        return self._whole()

    def __call__(self, index: int, output: TokenOutput) -> bytes:
        """Return the events of one output; the last output has the end's, too."""
        events = b""
        if not self._begun:
            self._begun = True
            events = self._begin()
        for added in self._reader.additions(output):
            events += self._add(added)
        if output.finish_reason is None:
            return events
        self.ended = True
        failure = self._reader.text.failure
        return events + (self._end() if failure is None else self._failed(failure))

    def failure(self) -> bytes:
        """Return the end of a stream whose text cannot be made."""
        return self._failed(INTERNAL_ERROR)

    @abstractmethod
    def _whole(self) -> Any:
        """Return the answer that is not streamed."""

    def _begin(self) -> bytes:
        """Return the events before the first token's."""
        return b""

    @abstractmethod
    def _add(self, added: Addition) -> bytes:
        """Return the events of an addition."""

    @abstractmethod
    def _end(self) -> bytes:
        """Return the last events."""

    @abstractmethod
    def _failed(self, message: str) -> bytes:
        """Return the last events of an answer that cannot be completed."""
