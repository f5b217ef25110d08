"""Routes that show tokens and prompts without generating.

POST /tokenize, /detokenize and /apply-template, which are llama.cpp's, and POST
/v1/completions/render and /v1/chat/completions/render, which are vLLM's.
"""

from abc import ABC, abstractmethod
from typing import Any

import falcon
import msgspec

from api.chat import ChatRequest
from api.client import Client
from api.completions import CompletionRequest, OpenAIRequest
from api.known_fields import unknown_fields
from api.prompts import prompt_text, prompt_tokens
from api.request_body import decode, model_of, read_json_body
from api.resources.readable import Readable
from api.schemas import Conversation, Prompt
from api.served_models import ServedModel
from api.services import Services
from api.tokens import (
    DetokenizeAnswer,
    DetokenizeBody,
    Piece,
    RenderedRequest,
    TemplateAnswer,
    TokenizeAnswer,
    TokenizeBody,
    TokenizerInfo,
)
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json
from runtime.tokenizer import Tokenizer

MAX_TOKENS = 1 << 18
"""That one answer may hold, where the context takes no more: each takes some hundred bytes."""


class TokenResource(ABC):
    """A POST that the tokenizer answers. It takes a slot, since its work may be as long."""

    body_type: type[msgspec.Struct] | None = None
    """Type of its body, if that is not a completion's."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer once."""
        services = self._services
        body = read_json_body(req, services.settings.max_body_bytes)
        model, client = model_of(body), Client(req)
        services.pool.find(model)
        name = req.context.access.x_request_id
        with (
            services.admit(req.context.key),
            services.pool.lease(model, watch=client.expect_waiting) as lease,
        ):
            if self.body_type is not None:
                decode(body, self.body_type)
                fields = unknown_fields(body, self.body_type.__struct_fields__)
                req.context.access.ignored_fields = fields
            resp.data = finite_json(self._answer(body, lease.model, client, name))

    @abstractmethod
    def _answer(self, body: bytes, model: ServedModel, client: Client, name: str) -> Any:
        """Return the response to a body, of a request with this name."""


class TokenizeResource(TokenResource):
    """POST /tokenize: tokens of a text."""

    body_type = TokenizeBody

    def _answer(self, body: bytes, model: ServedModel, client: Client, name: str) -> TokenizeAnswer:
        given = decode(body, TokenizeBody)
        tokenizer = model.tokenizer
        tokens: list[int] = []

        def watch(further: int) -> None:
            client.expect_waiting()
            _expect_few(len(tokens) + further, model)

        parts, adds_special = given.parts(), given.adds_special()
        watch(len(parts) if isinstance(given.content, list) else 0)
        for index, part in enumerate(parts):
            if isinstance(part, int):
                tokens.append(_known(part, tokenizer))
                continue
            tokens += tokenizer.encode(
                part,
                add_special=adds_special and index == 0,
                parse_special=given.parse_special is not False,
                watch=watch,
            )
        if given.with_pieces:
            return TokenizeAnswer([Piece.of(t, tokenizer.token_piece(t)) for t in tokens])
        return TokenizeAnswer(tokens)


class DetokenizeResource(TokenResource):
    """POST /detokenize: text of tokens, with control tokens by name."""

    body_type = DetokenizeBody

    def _answer(
        self, body: bytes, model: ServedModel, client: Client, name: str
    ) -> DetokenizeAnswer:
        tokenizer = model.tokenizer
        given = decode(body, DetokenizeBody).tokens or ()
        _expect_few(len(given), model)
        tokens = [_known(token, tokenizer) for token in given]
        text = b"".join(map(tokenizer.token_piece, tokens)).decode("utf-8", "replace")
        return DetokenizeAnswer(text, text)


class TokenizerInfoResource(Readable):
    """GET /tokenizer_info: names of special tokens, and the template of chats."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer once."""
        with self._services.admit(req.context.key), self._services.pool.lease() as lease:
            model = lease.model
            tokenizer = model.tokenizer
            bos, eos = (
                None if token is None else tokenizer.token_text(token)
                for token in (tokenizer.bos, tokenizer.eos)
            )
            template = model.chat_template or tokenizer.chat_template
            resp.data = finite_json(TokenizerInfo(bos, eos, template))


class ApplyTemplateResource(TokenResource):
    """POST /apply-template: prompt of the model's template for messages."""

    def _answer(self, body: bytes, model: ServedModel, client: Client, name: str) -> TemplateAnswer:
        conversation = ChatRequest.parse(body).generate.prompt
        assert isinstance(conversation, Conversation)
        return TemplateAnswer(prompt_text(conversation, model, client))


class RenderCompletionResource(TokenResource):
    """POST /v1/completions/render: the request that this route would send to the engine."""

    def _answer(
        self, body: bytes, model: ServedModel, client: Client, name: str
    ) -> list[RenderedRequest]:
        wanted = CompletionRequest.parse(body)
        return [
            _rendered(prompt, wanted, model, client, f"cmpl-{name}")
            for prompt in wanted.generate.prompts
        ]


class RenderChatResource(TokenResource):
    """POST /v1/chat/completions/render: the request that this route would send to the engine."""

    def _answer(
        self, body: bytes, model: ServedModel, client: Client, name: str
    ) -> RenderedRequest:
        wanted = ChatRequest.parse(body)
        return _rendered(wanted.generate.prompt, wanted, model, client, f"chatcmpl-{name}")


def _rendered(
    prompt: Prompt, wanted: OpenAIRequest, model: ServedModel, client: Client, name: str
) -> RenderedRequest:
    tokens = tuple(prompt_tokens(prompt, wanted.generate, model, client))
    model.engine.limits.check_prompt(tokens, answered=wanted.generate.max_tokens > 0)
    room = model.engine.limits.context_length - len(tokens)
    return RenderedRequest.of(wanted, tokens, model=model.name, name=name, room=room)


def _expect_few(tokens: int, model: ServedModel) -> None:
    """Raise InvalidRequest where an answer would hold too many tokens."""
    most = max(MAX_TOKENS, model.engine.limits.context_length)
    if tokens > most:
        raise InvalidRequest(f"there are more than {most} tokens or texts; send them in pieces")


def _known(token: int, tokenizer: Tokenizer) -> int:
    """Return the token. Raises InvalidRequest if the vocabulary has no such id."""
    if not 0 <= token < tokenizer.vocabulary_size:
        most = tokenizer.vocabulary_size - 1
        raise InvalidRequest(f"a token id is not between 0 and {most}")
    return token
