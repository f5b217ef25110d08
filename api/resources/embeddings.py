"""POST /v1/embeddings, /v1/rerank and /v1/score: what models give that generate no text."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any

import falcon
import msgspec

from api.client import Client
from api.embeddings import (
    EmbeddingBody,
    EmbeddingList,
    Given,
    RankedList,
    RerankBody,
    ScoreBody,
    ScoreList,
)
from api.known_fields import unknown_fields
from api.request_body import decode, read_json_body
from api.served_models import ServedModel
from api.services import Services
from api.telemetry.embedding_requests import EmbeddingRequests
from runtime.embedding import Tokens, Vector, expect_dimensions, relevance
from runtime.embedding_engine import EmbeddingEngine
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.finite_json import finite_json

LOOK_SECONDS = 0.2
"""Interval at which a request that waits for its vectors looks whether its client does too."""


class VectorResource(ABC):
    """A POST that is answered with vectors or scores. It takes a slot for as long."""

    body_type: type[msgspec.Struct]
    """What its body is."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer once."""
        services = self._services
        content = read_json_body(req, services.settings.max_body_bytes)
        body: Any = decode(content, self.body_type)
        fields = unknown_fields(content, self.body_type.__struct_fields__)
        req.context.access.ignored_fields = fields
        model = self._model_name(body)
        services.pool.find(model)
        client, name = Client(req), req.context.access.x_request_id
        with (
            services.admit(req.context.key) as admission,
            services.pool.lease(model, watch=client.expect_waiting) as lease,
        ):

            def answered(newest: ServedModel) -> Any:
                asked = Asked(newest, client, services.embeddings)
                answer = self._answer(body, asked, name)
                admission.tokens = asked.tokens
                services.by_key.count(req.context.access.key, asked.tokens)
                return answer

            resp.data = finite_json(services.with_newest(lease, answered))

    def _model_name(self, body: Any) -> str | None:
        """Return the name of the model that a body asks, if it has one."""
        name: str | None = body.model
        return name

    @abstractmethod
    def _answer(self, body: Any, asked: "Asked", name: str) -> Any:
        """Return the response to a body, of a request with this name."""


class Asked:
    """A model that is asked for vectors by one request's thread, which owns this."""

    def __init__(self, model: ServedModel, client: Client, counts: EmbeddingRequests) -> None:
        self.model = model
        self._client = client
        self._counts = counts
        self.tokens = 0
        """Tokens of all texts."""

    def engine(self, *, scores: bool) -> EmbeddingEngine:
        """Return the engine. Raises InvalidRequest for a model that gives something else."""
        engine = self.model.embedding
        if engine is None:
            raise InvalidRequest(
                f"{self.model.name} generates text; serve an embedding model or a reranker for "
                "this route"
            )
        if engine.pooled.scores != scores:
            other = "/v1/rerank and /v1/score" if engine.pooled.scores else "/v1/embeddings"
            raise InvalidRequest(f"{self.model.name} answers on {other}, not on this route")
        return engine

    def tokens_of(
        self, texts: Sequence[Given], engine: EmbeddingEngine, *, cut: bool = False
    ) -> list[Tokens]:
        """Return the tokens of texts; with `cut` no more than the context, the last one kept.

        Raises ContextLengthExceeded as soon as one is certain to be too long, and ClientGone where
        the client has disconnected.
        """

        def watch(tokens: int) -> None:
            self._client.expect_waiting()
            if not cut:
                _expect_short(tokens, engine)

        encode, most = self.model.tokenizer.encode, engine.context_length
        found: list[Tokens] = [
            encode(each, watch=watch) if isinstance(each, str) else each for each in texts
        ]
        if not cut:
            return found
        return [each if len(each) <= most else [*each[: most - 1], each[-1]] for each in found]

    def vectors(self, engine: EmbeddingEngine, texts: Sequence[Tokens]) -> list[Vector]:
        """Return the vectors of texts, when they are computed."""
        self.tokens = sum(map(len, texts))
        answer = engine.submit(texts)
        with self._counts.counted(self.model.name, len(texts), self.tokens):
            try:
                while True:
                    with suppress(NotYet):
                        return answer.result(LOOK_SECONDS)
                    self._client.expect_waiting()
            finally:
                answer.cancel()

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return how well the second text of each pair fits the first, 0 to 1."""
        engine = self.engine(scores=True)
        tokenizer = self.model.tokenizer
        texts = []
        for query, document in pairs:
            _expect_short(tokenizer.least_tokens(len(query) + len(document)), engine)
            self._client.expect_waiting()
            texts.append(tokenizer.encode_pair(query, document))
        return [relevance(each) for each in self.vectors(engine, texts)]


class EmbeddingsResource(VectorResource):
    """POST /v1/embeddings of OpenAI's API."""

    body_type = EmbeddingBody

    def _answer(self, body: EmbeddingBody, asked: Asked, name: str) -> EmbeddingList:
        engine = asked.engine(scores=False)
        expect_dimensions(body.dimensions, engine.pooled)
        _ = body.is_base64  # before anything is computed
        vectors = asked.vectors(engine, asked.tokens_of(body.texts, engine))
        return EmbeddingList.of(vectors, body, asked.model.name, asked.tokens)


class RerankResource(VectorResource):
    """POST /v1/rerank, as Jina and Cohere have it."""

    body_type = RerankBody

    def _answer(self, body: RerankBody, asked: Asked, name: str) -> RankedList:
        scores = asked.scores([(body.query, text) for text in body.texts])
        return RankedList.of(scores, body, asked.model.name, name, asked.tokens)


class ScoreResource(VectorResource):
    """POST /v1/score, as vLLM has it."""

    body_type = ScoreBody

    def _answer(self, body: ScoreBody, asked: Asked, name: str) -> ScoreList:
        return ScoreList.of(asked.scores(body.pairs), asked.model.name, name, asked.tokens)


def _expect_short(tokens: int, engine: EmbeddingEngine) -> None:
    """Raise ContextLengthExceeded for a text that certainly has too many tokens."""
    if tokens > engine.context_length:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {engine.context_length} tokens; a text has "
            f"at least {tokens}: shorten it"
        )
