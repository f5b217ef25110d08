"""Bodies and answers of the routes of models that embed or score texts.

Sources of names and shapes: OpenAI's API reference, "Create embeddings"; Jina's and Cohere's
"Rerank"; vLLM's score API.
"""

import base64
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.embedding import Vector, normalized
from runtime.errors import InvalidRequest

MAX_TEXTS = 2048
"""Of one request, as OpenAI has it."""

Given = str | list[int]
"""A text, or its tokens."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of POST /v1/embeddings. Unknown fields are ignored."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None

    @property
    def texts(self) -> list[Given]:
        """The texts. Raises InvalidRequest where there is none, too many, or a mixture."""
        if isinstance(self.input, str):
            return [self.input]
        numbers = [each for each in self.input if isinstance(each, int)]
        if numbers and len(numbers) == len(self.input):
            return [numbers]
        if numbers:
            raise InvalidRequest("input mixes token ids and texts", field="input")
        texts = [each for each in self.input if not isinstance(each, int)]
        expect_count(len(texts), "input")
        return texts

    @property
    def is_base64(self) -> bool:
        """Whether vectors are sent as base64 of float32. Raises InvalidRequest."""
        if self.encoding_format not in (None, "float", "base64"):
            raise InvalidRequest("encoding_format must be float or base64", field="encoding_format")
        return self.encoding_format == "base64"


class Embedding(msgspec.Struct, frozen=True):
    """The vector of one text."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class EmbeddingList(msgspec.Struct, frozen=True):
    """Answer of POST /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: str = "list"

    @classmethod
    def of(
        cls, vectors: Sequence[Vector], body: EmbeddingBody, model: str, tokens: int
    ) -> "EmbeddingList":
        """The vectors of a request, cut and divided by their length."""
        encode = _in_base64 if body.is_base64 else _numbers
        data = [
            Embedding(index, encode(normalized(vector, body.dimensions)))
            for index, vector in enumerate(vectors)
        ]
        return cls(data, model, Usage(tokens, tokens))


class Document(msgspec.Struct, frozen=True):
    """A text to be ranked."""

    text: str


class RerankBody(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of POST /v1/rerank. Unknown fields are ignored."""

    query: str
    documents: list[str | Document]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None

    @property
    def texts(self) -> list[str]:
        """The documents. Raises InvalidRequest where there is none, or too many."""
        expect_count(len(self.documents), "documents")
        return [each if isinstance(each, str) else each.text for each in self.documents]


class Ranked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The score of one document."""

    index: int
    relevance_score: float
    document: Document | None = None


class RankedList(msgspec.Struct, frozen=True):
    """Answer of POST /v1/rerank, the best first."""

    id: str
    model: str
    usage: Usage
    results: list[Ranked]

    @classmethod
    def of(
        cls, scores: Sequence[float], body: RerankBody, model: str, name: str, tokens: int
    ) -> "RankedList":
        """Sort the documents of a request. Raises InvalidRequest for a top_n below 1."""
        if body.top_n is not None and body.top_n < 1:
            raise InvalidRequest("top_n must be at least 1", field="top_n")
        texts = body.texts
        order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
        shown = [
            Ranked(index, scores[index], Document(texts[index]) if body.return_documents else None)
            for index in order[: body.top_n]
        ]
        return cls(f"rerank-{name}", model, Usage(tokens, tokens), shown)


class ScoreBody(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of POST /v1/score. Unknown fields are ignored."""

    text_1: str | list[str]
    text_2: str | list[str]
    model: str | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """One with each, or each with its own. Raises InvalidRequest for other numbers of texts."""
        second = [self.text_2] if isinstance(self.text_2, str) else self.text_2
        first = [self.text_1] if isinstance(self.text_1, str) else self.text_1
        expect_count(len(second), "text_2")
        if len(first) == 1:
            first = first * len(second)
        if len(first) != len(second):
            raise InvalidRequest("text_1 must be one text, or as many as text_2", field="text_1")
        return list(zip(first, second, strict=True))


class Score(msgspec.Struct, frozen=True):
    """The score of one pair."""

    index: int
    score: float
    object: str = "score"


class ScoreList(msgspec.Struct, frozen=True):
    """Answer of POST /v1/score."""

    id: str
    created: int
    model: str
    data: list[Score]
    usage: Usage
    object: str = "list"

    @classmethod
    def of(cls, scores: Sequence[float], model: str, name: str, tokens: int) -> "ScoreList":
        """The scores of a request, in its order."""
        data = [Score(index, score) for index, score in enumerate(scores)]
        created = int(time.time())  # noqa: TID251
        return cls(f"score-{name}", created, model, data, Usage(tokens, tokens))


def expect_count(texts: int, field: str) -> None:
    """Raise InvalidRequest for no text or too many."""
    if not 1 <= texts <= MAX_TEXTS:
        raise InvalidRequest(f"{field} must have 1 to {MAX_TEXTS} texts", field=field)


def _numbers(vector: Vector) -> list[float]:
    return [float(value) for value in vector]


def _in_base64(vector: Vector) -> str:
    return base64.b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode()
