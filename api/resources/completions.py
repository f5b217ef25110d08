"""POST /v1/completions of OpenAI's API."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import falcon
import msgspec

from api.active_request import ActiveRequest, begin
from api.completions import (
    Choice,
    Completion,
    CompletionRequest,
    OpenAIRequest,
    Usage,
)
from api.generation_state import text_decoder
from api.logprobs import TextOffsets, echoed
from api.openai_answer import ChoiceReader, OpenAIWriter
from api.request_body import read_json_body
from api.response_writer import ResponseWriter
from api.services import Services
from runtime.generation import FinishReason, TokenOutput
from runtime.sampling import TokenLogprobs


class GeneratingResource(ABC):
    """A POST that generates."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _generate(self, req: falcon.Request, resp: falcon.Response, wanted: OpenAIRequest) -> None:
        """Begin the request, and make the response its answer or its stream."""
        services = self._services
        active = begin(services, req, wanted.generate)
        with active.closed_on_failure():
            writer = self._writer(active, wanted, req.context.access.x_request_id)
            writer.respond(req, resp, services)

    @abstractmethod
    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> ResponseWriter:
        """Return the writer of the answer."""


class OpenAIResource(GeneratingResource):
    """POST of one kind of completion: answers at once or, with `stream`, token by token."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate."""
        body = read_json_body(req, self._services.settings.max_body_bytes)
        self._generate(req, resp, self._wanted(body))

    @abstractmethod
    def _wanted(self, body: bytes) -> OpenAIRequest:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""


class CompletionsResource(OpenAIResource):
    """POST /v1/completions."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return CompletionRequest.parse(body)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> OpenAIWriter[Any]:
        return CompletionWriter(active, wanted, f"cmpl-{request_id}")


class CompletionReader(ChoiceReader):
    """Reads one text of POST /v1/completions."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest, place: int) -> None:
        super().__init__(active, wanted, place)
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprobs] = []
        tokenizer = active.model.tokenizer
        self._prompt, self._prompt_offsets = "", list[int]()
        if wanted.shown.echo:
            prompt = wanted.generate.prompts[place // wanted.generate.choices]
            tokens = self.generation.prompt_tokens
            self._prompt, self._prompt_offsets = echoed(prompt, tokens, tokenizer)
        self._offsets = TextOffsets(text_decoder(tokenizer), len(self._prompt))
        self._begun = not wanted.shown.echo
        """Whether the prompt has been returned, or is not to be."""

    def take(self, output: TokenOutput) -> None:
        """Add an output of an answer that is not streamed."""
        before = self.text.token_count
        self._texts.append(self.text.add(output))
        self._logprobs += self.added_logprobs(before)

    def whole(self) -> Choice:
        """Return the whole text."""
        text = "".join([self._prompt, *self._texts])
        prompt = () if self._begun else self._scored_prompt()
        choice = self._choice(text, self.finish_reason, self._logprobs, prompt)
        if self.shown.prompt is None:
            return choice
        scored = self.shapes.prompt(self.prompt_logprobs)
        return msgspec.structs.replace(choice, prompt_logprobs=scored)

    def chunks(self, output: TokenOutput) -> Iterator[Choice]:
        """Return what an output adds to the text; the prompt comes before the first."""
        shown, before = not self.text.stopped, self.text.token_count
        text = self.text.add(output)
        if not self._begun and output.finish_reason is not FinishReason.FAILED:
            self._begun = True
            yield self._choice(self._prompt, None, (), self._scored_prompt())
        if output.finish_reason is not None:
            yield self._choice(text, self.finish_reason, self.added_logprobs(before))
        elif shown:
            yield self._choice(text, None, self.added_logprobs(before))

    def _scored_prompt(self) -> list[tuple[int, TokenLogprobs | None]]:
        """The prompt's tokens, of which the first has no logprobs."""
        tokens = self.generation.prompt_tokens
        return list(zip(tokens, [None, *self.prompt_logprobs], strict=False))

    def _choice(
        self,
        text: str,
        reason: str | None,
        added: Sequence[TokenLogprobs],
        prompt: Sequence[tuple[int, TokenLogprobs | None]] = (),
    ) -> Choice:
        logprobs = None
        if self.shown.answer is not None:
            tokens = [*prompt, *((entry.token, entry) for entry in added)]
            offsets = [
                *self._prompt_offsets[: len(prompt)],
                *(self._offsets.of(entry.token) for entry in added),
            ]
            logprobs = self.shapes.completion(tokens, offsets)
        return Choice(text=text, index=self.index, logprobs=logprobs, finish_reason=reason)


class CompletionWriter(OpenAIWriter[CompletionReader]):
    """Writes the texts of POST /v1/completions."""

    def _reader(self, place: int) -> CompletionReader:
        return CompletionReader(self._active, self._wanted, place)

    def _whole(self, choices: Sequence[Any], usage: Usage) -> Completion:
        return self._chunk(choices, usage)

    def _chunk(self, choices: Sequence[Any], usage: Usage | msgspec.UnsetType | None) -> Completion:
        return Completion(
            id=self._name,
            created=self._created,
            model=self._active.model.name,
            choices=tuple(choices),
            usage=usage,
        )
