"""POST /api/embed of Ollama's API."""

import time
from typing import Any

import msgspec

from api.dialects.ollama.request import model_name
from api.embeddings import expect_count
from api.resources.embeddings import Asked, VectorResource
from runtime.embedding import expect_dimensions, normalized


class EmbedBody(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of POST /api/embed; `options` and `keep_alive` have no effect."""

    input: str | list[str]
    model: str | None = None
    truncate: bool | None = None
    """Whether a text longer than the context is cut; by default so."""
    dimensions: int | None = None
    options: dict[str, Any] | None = None
    keep_alive: str | int | float | None = None


class EmbedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /api/embed; durations in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int


class EmbedResource(VectorResource):
    """POST /api/embed."""

    body_type = EmbedBody

    def _model_name(self, body: EmbedBody) -> str | None:
        return model_name(body.model)

    def _answer(self, body: EmbedBody, asked: Asked, name: str) -> EmbedAnswer:
        began = time.perf_counter_ns()
        engine = asked.engine(scores=False)
        expect_dimensions(body.dimensions, engine.pooled)
        texts = [body.input] if isinstance(body.input, str) else body.input
        expect_count(len(texts), "input")
        tokens = asked.tokens_of(texts, engine, cut=body.truncate is not False)
        vectors = asked.vectors(engine, tokens)
        return EmbedAnswer(
            model=asked.model.name,
            embeddings=[normalized(each, body.dimensions).tolist() for each in vectors],
            total_duration=time.perf_counter_ns() - began,
            prompt_eval_count=asked.tokens,
        )
