"""POST /v1/embeddings, /v1/rerank and /v1/score."""

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
import requests

from api.app import create_app
from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from pipelines.conversion.convert import convert
from runtime.embedding_engine import EmbeddingEngine
from runtime.engine import Engine
from runtime.loading import load, tokenizer_cache
from runtime.settings import Settings
from runtime.source import Source
from tests.api.serving import Serving
from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import write_tiny_model
from tests.waiting import SECONDS

Post = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return the address of a server of a tiny model, which ends with the module."""
    running: list[tuple[Server, ServedModel]] = []
    urls: dict[str, str] = {}

    def started(name: str) -> str:
        if name in urls:
            return urls[name]
        folder = tmp_path_factory.mktemp(name)
        settings = Settings(home=folder, port=0, threads=1, token_budget=64)
        settings = msgspec.structs.replace(settings, cache_tokens=1024)
        path = write_tiny_model(folder / "tiny.gguf", TINY_ENCODERS[name])
        prepared = folder / "prepared"
        prepared.mkdir()
        convert(Source(path), prepared, "tiny")
        session, tokenizer = load(prepared, settings, tokenizer_cache(settings))
        services = Services(settings=settings)
        engine = Engine(
            session, end_of_generation=frozenset(), settings=settings, observer=services
        )
        engine.start()
        embedding = EmbeddingEngine(session, settings)
        embedding.start()
        model = ServedModel("tiny", engine, tokenizer, embedding=embedding)
        services.served.load(lambda: model)
        server = Server(create_app(services), settings)
        server.start()
        running.append((server, model))
        urls[name] = server.url
        return server.url

    yield started
    for server, model in running:
        assert model.stop()
        server.close()


@pytest.fixture(scope="module")
def embed(served: Callable[[str], str]) -> Post:
    """Posts to an embedding model's server."""
    return _poster(served("bert-mean"))


@pytest.fixture(scope="module")
def rank(served: Callable[[str], str]) -> Post:
    """Posts to a reranker's server."""
    return _poster(served("bert-reranker"))


def _poster(url: str) -> Post:
    return lambda path, **body: requests.post(url + path, json=body, timeout=SECONDS)


def vectors(answer: requests.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([each["embedding"] for each in answer.json()["data"]])


def test_a_text_and_its_tokens_have_the_same_vector(embed: Post) -> None:
    tokens = embed("/tokenize", content="hello the world", add_special=True).json()["tokens"]
    answer = embed("/v1/embeddings", input="hello the world", model="tiny")
    (vector,) = vectors(answer)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert answer.json()["usage"] == {"prompt_tokens": len(tokens), "total_tokens": len(tokens)}
    assert answer.json()["object"] == "list"
    assert (vectors(embed("/v1/embeddings", input=tokens)) == vector).all()
    several = vectors(embed("/v1/embeddings", input=[tokens, "another text", tokens]))
    assert (several[[0, 2]] == vector).all()
    assert (several[1] != vector).any()


def test_vectors_are_cut_and_sent_as_base64(embed: Post) -> None:
    (whole,) = vectors(embed("/v1/embeddings", input="hello"))
    answer = embed("/v1/embeddings", input="hello", dimensions=16, encoding_format="base64")
    sent = base64.b64decode(answer.json()["data"][0]["embedding"])
    expected = whole[:16] / np.linalg.norm(whole[:16])
    np.testing.assert_allclose(np.frombuffer(sent, "<f4"), expected, rtol=1e-5)


def test_openais_client_embeds(served: Callable[[str], str]) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=served("bert-mean") + "/v1", api_key="none", max_retries=0)
    answer = client.embeddings.create(model="tiny", input=["hello", "the world"])
    assert [each.index for each in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == 64
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny", input="hello", dimensions=65)
    assert caught.value.param == "dimensions"
    assert client.models.retrieve("tiny").task == "embed"


def test_ollamas_route_cuts_long_texts(embed: Post) -> None:
    (vector,) = vectors(embed("/v1/embeddings", input="hello"))
    answer = embed("/api/embed", model="tiny:latest", input=["hello", "x" * 300]).json()
    np.testing.assert_array_equal(answer["embeddings"][0], vector)
    assert answer["prompt_eval_count"] == 256 + 1
    refused = embed("/api/embed", input="x" * 300, truncate=False)
    assert refused.status_code == 400
    assert "maximum context length" in refused.json()["error"]


def test_requests_at_once_have_the_vectors_they_have_alone(embed: Post) -> None:
    texts = [["hello " * (1 + 3 * i), "the world", f"number {i}"] * 5 for i in range(6)]
    alone = [vectors(embed("/v1/embeddings", input=each)) for each in texts]
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = pool.map(lambda each: vectors(embed("/v1/embeddings", input=each)), texts)
    for one, other in zip(alone, answers, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": []}, "1 to 2048 texts"),
        ({"input": [[]]}, "no tokens"),
        ({"input": ["a", 1]}, "mixes token ids and texts"),
        ({"input": [999999]}, "token id is not between"),
        ({"input": "x" * 300}, "maximum context length is 256 tokens"),
        ({"input": "x", "encoding_format": "hex"}, "float or base64"),
        ({"input": "x", "dimensions": 0}, "between 1 and 64"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    embed: Post, body: dict[str, Any], message: str
) -> None:
    answer = embed("/v1/embeddings", **body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("/v1/completions", {"prompt": "hello"}),
    ],
)
def test_a_model_that_embeds_says_that_it_writes_no_text(
    embed: Post, path: str, body: dict[str, Any]
) -> None:
    answer = embed(path, **body)
    assert answer.status_code == 400
    assert "tiny gives vectors of texts and generates none" in answer.json()["error"]["message"]


def test_documents_are_ranked(rank: Post) -> None:
    documents = ["one", {"text": "two words"}, "the third"]
    answer = rank("/v1/rerank", query="which", documents=documents, return_documents=True).json()
    scores = [each["relevance_score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    texts = {each["index"]: each["document"]["text"] for each in answer["results"]}
    assert texts == {0: "one", 1: "two words", 2: "the third"}
    best = rank("/rerank", query="which", documents=documents, top_n=1).json()["results"]
    assert best == [{"index": answer["results"][0]["index"], "relevance_score": scores[0]}]


def test_pairs_are_scored(rank: Post) -> None:
    ranked = rank("/v1/rerank", query="which", documents=["one", "another"]).json()["results"]
    scored = rank("/v1/score", text_1="which", text_2=["one", "another"]).json()["data"]
    by_index = {each["index"]: each["relevance_score"] for each in ranked}
    assert {each["index"]: each["score"] for each in scored} == by_index
    assert rank("/v1/score", text_1=["a", "b"], text_2="c").status_code == 400


def test_each_kind_of_model_names_its_routes(embed: Post, rank: Post, serving: Serving) -> None:
    for answer, says in (
        (embed("/v1/rerank", query="a", documents=["b"]), "tiny answers on /v1/embeddings"),
        (rank("/v1/embeddings", input="a"), "tiny answers on /v1/rerank and /v1/score"),
        (serving.post("/v1/embeddings", json={"input": "a"}), "tiny generates text"),
    ):
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]


def test_requests_are_counted(served: Callable[[str], str]) -> None:
    url = served("bert-mean")

    def texts() -> float:
        lines = requests.get(f"{url}/metrics", timeout=SECONDS).text.splitlines()
        name = 'rocmforge_model_embedding_texts_total{model="tiny"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = texts()
    vectors(_poster(url)("/v1/embeddings", input=["hello", "the world"]))
    assert texts() == before + 2
