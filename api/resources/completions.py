"""OpenAI's dialect: POST /v1/completions, GET /v1/models and GET /v1/models/{name}."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable

import falcon
import msgspec

from api import sse
from api.answer_text import AnswerText
from api.completions import (
    Choice,
    Completion,
    CompletionRequest,
    ModelFigures,
    ModelList,
    ModelObject,
    OpenAIRequest,
    TokenDetails,
    Usage,
)
from api.errors import INTERNAL_ERROR, GenerationFailed, OpenAIError, OpenAIErrorBody
from api.exchange import Exchange, begin
from api.generation_state import text_decoder
from api.holder import ServedModel, expect_served
from api.request_body import read_json_body
from api.resources.readable import Readable
from api.services import Services
from runtime.finite_json import finite_json
from runtime.generation import FinishReason, TokenOutput

DONE = b"data: [DONE]\n\n"


class OpenAIResource(ABC):
    """POST of one kind of completion: answers at once or, with `stream`, token by token."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate."""
        services = self._services
        wanted = self._wanted(read_json_body(req, services.settings.max_body_bytes))
        model = services.model_for_new_work()
        exchange = begin(services, req, wanted.generate, model)
        with exchange.closed_on_failure():
            writer = self._writer(exchange, wanted, req.context.access.x_request_id)
            writer.respond(req, resp, ping_seconds=services.ping_seconds)

    @abstractmethod
    def _wanted(self, body: bytes) -> OpenAIRequest:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""

    @abstractmethod
    def _writer(self, exchange: Exchange, wanted: OpenAIRequest, request_id: str) -> "OpenAIWriter":
        """What writes the answer."""


class CompletionsResource(OpenAIResource):
    """POST /v1/completions."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return CompletionRequest.parse(body)

    def _writer(self, exchange: Exchange, wanted: OpenAIRequest, request_id: str) -> "OpenAIWriter":
        return CompletionWriter(exchange, wanted, f"cmpl-{request_id}")


class OpenAIWriter(ABC):
    """Turns the outputs of one request into an answer or its chunks. Owned by one thread."""

    def __init__(self, exchange: Exchange, wanted: OpenAIRequest, name: str) -> None:
        self._exchange = exchange
        self._wanted = wanted
        self._name = name
        self._created = int(time.time())  # noqa: TID251
        decoder = text_decoder(exchange.model.tokenizer, wanted.generate.stops, self._shown())
        self._text = AnswerText(exchange.generation, decoder, exchange.finish)

    def _shown(self) -> Iterable[str]:
        """Texts with the names of control tokens that belong to the answer."""
        return ()

    def respond(
        self, request: falcon.Request, response: falcon.Response, *, ping_seconds: float
    ) -> None:
        """Make the response the whole answer or its stream; either closes the exchange."""
        if self._wanted.stream:
            sse.answer_stream(request, response, self._exchange, self, ping_seconds=ping_seconds)
            return
        try:
            response.data = finite_json(self.answer())
        finally:
            self._exchange.close()

    def answer(self) -> msgspec.Struct:
        """Wait for the end and give the whole answer.

        Raises GenerationFailed.
        """
        return self._whole(self._text.whole(), self._finish_reason)

    def __call__(self, output: TokenOutput) -> bytes:
        """The chunks of one output: one for each token, and at the end usage and [DONE].

        Tokens that come after a stop string, before the engine has ended the request, have none.
        """
        shown = not self._text.stopped
        text = self._text.add(output)
        if output.finish_reason is None:
            return self._chunk(text, None) if shown else b""
        if self._text.failure is not None:
            return self._error(self._text.failure)
        last = self._chunk(text, self._finish_reason)
        if self._wanted.include_usage:
            last += self._usage_chunk()
        return last + DONE

    def failure(self) -> bytes:
        """The end of a stream whose text cannot be made."""
        return self._error(INTERNAL_ERROR)

    @staticmethod
    def _error(message: str) -> bytes:
        error = OpenAIErrorBody(OpenAIError.of(GenerationFailed.code, message))
        return sse.event_bytes(error) + DONE

    @abstractmethod
    def _whole(self, text: str, reason: str | None) -> msgspec.Struct:
        """The answer that is not streamed."""

    @abstractmethod
    def _chunk(self, text: str, reason: str | None) -> bytes:
        """The events that add a text."""

    @abstractmethod
    def _usage_chunk(self) -> bytes:
        """The event of a stream that has the token counts."""

    @property
    def _usage_of_chunks(self) -> msgspec.UnsetType | None:
        """What stands for the counts in all chunks before the last."""
        return None if self._wanted.include_usage else msgspec.UNSET

    @property
    def _finish_reason(self) -> str | None:
        """Why the text ends; OpenAI has one word for stops and end tokens."""
        reason = self._text.finish_reason
        return FinishReason.STOP if reason is FinishReason.EOS else reason

    def _usage(self) -> Usage:
        generation = self._exchange.generation
        prompt_count = len(generation.prompt_tokens)
        return Usage(
            prompt_count,
            self._text.token_count,
            prompt_count + self._text.token_count,
            TokenDetails(generation.prefix_hit_tokens),
        )


class CompletionWriter(OpenAIWriter):
    """Writes the text of POST /v1/completions."""

    def _whole(self, text: str, reason: str | None) -> Completion:
        return self._completion(Choice(text=text, finish_reason=reason), self._usage())

    def _chunk(self, text: str, reason: str | None) -> bytes:
        choice = Choice(text=text, finish_reason=reason)
        return sse.event_bytes(self._completion(choice, self._usage_of_chunks))

    def _usage_chunk(self) -> bytes:
        return sse.event_bytes(self._completion(None, self._usage()))

    def _completion(
        self, choice: Choice | None, usage: Usage | msgspec.UnsetType | None
    ) -> Completion:
        return Completion(
            id=self._name,
            created=self._created,
            model=self._exchange.model.name,
            choices=() if choice is None else (choice,),
            usage=usage,
        )


class OpenAIModelsResource(Readable):
    """GET /v1/models: the model that is served, if there is one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List it."""
        model = self._services.holder.model
        listed = () if model is None else (_describe(model),)
        resp.data = finite_json(ModelList(data=listed))


class OpenAIModelResource(Readable):
    """GET /v1/models/{name}."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Describe the model of that name."""
        model = self._services.holder.ready_model()
        expect_served(name, model)
        resp.data = finite_json(_describe(model))


def _describe(model: ServedModel) -> ModelObject:
    engine = model.engine
    return ModelObject(
        id=model.name,
        created=model.loaded_at,
        max_model_len=engine.context_length,
        meta=ModelFigures(
            n_ctx=engine.context_length,
            n_ctx_train=engine.trained_context_length,
            n_vocab=engine.vocabulary_size,
        ),
    )
