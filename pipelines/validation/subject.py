"""The model under its checks, with what they share computed once."""

from functools import cached_property
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from pipelines.conversion.architectures import ModelSpec, describe
from pipelines.conversion.convert import graph_of
from pipelines.conversion.graph import page_layout
from pipelines.validation.limits import most_divergence
from pipelines.validation.parity import OperatorError, operator_errors
from pipelines.validation.reference import ReferenceModel
from pipelines.validation.steps import PAGE_SIZE, one_row, pages_for, rows
from runtime.gguf import GGUFFile
from runtime.loading import tokenizer_cache
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.packed_weights import PackedArrays, packed_weights
from runtime.progress import Amount, uncounted
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer

PROMPT = "The capital of France is Paris. The capital of Germany is Berlin, and the"
PROMPT_TOKENS = 24
GREEDY_TOKENS = 8
PASSAGE_TOKENS = 256
MIN_PASSAGE_TOKENS = 32
PASSAGE_WORK = 2.4e11
"""Parameters times tokens of the passage: about five seconds of one processor."""


class Subject:
    """A converted model and the data its checks compare it with. Owned by one thread.

    The exact model is evaluated once, operator by operator, over all texts, and some rows of a
    matrix are dequantized at a time, so that any size fits: see pipelines.validation.reference.
    """

    def __init__(self, folder: Path, settings: Settings, amount: Amount = uncounted) -> None:
        self.folder = folder
        self.amount = amount
        """Is called with the bytes of weights that a check has gone through."""
        self.pages = 2 * pages_for(PROMPT_TOKENS + GREEDY_TOKENS) + pages_for(PASSAGE_TOKENS)
        self.settings = msgspec.structs.replace(
            settings,
            device="cpu",  # the graph is checked, not a machine
            cache_tokens=self.pages * PAGE_SIZE,
            page_size=PAGE_SIZE,
        )

    @cached_property
    def manifest(self) -> Manifest:
        """The description that will be published."""
        return Manifest.read(self.folder)

    @cached_property
    def weights(self) -> tuple[Path, ...]:
        """The files of the GGUF."""
        return self.manifest.weights_paths(self.folder)

    @cached_property
    def file(self) -> GGUFFile:
        """The GGUF, read."""
        return GGUFFile.open(*self.weights)

    @cached_property
    def spec(self) -> ModelSpec:
        """The model's description, from the GGUF."""
        return describe(self.file)

    @property
    def most_divergence(self) -> float:
        """The allowed mean divergence from the exact model, nats per token."""
        return most_divergence(self.manifest.block_formats, has_experts=self.spec.has_experts)

    @cached_property
    def stored(self) -> ModelProto:
        """The graph that will be published."""
        return onnx.load_model_from_string((self.folder / GRAPH_NAME).read_bytes())

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return Tokenizer.from_gguf(self.file, tokenizer_cache(self.settings))

    @cached_property
    def session(self) -> Session:
        """The session that will be served."""
        return self.new_session()

    def pack(self) -> PackedArrays:
        """Return the packed matrices by name, packed if missing; empty if none are used."""
        if self.settings.weights == "mapped":
            return {}
        packed = packed_weights(
            self.file,
            self.manifest.weights.sha256,
            self.settings.packed_folder,
            amount=self.amount,
            limit=self.settings.packed_bytes,
        )
        return {} if packed is None else packed.arrays

    def new_session(self) -> Session:
        """Another session of the model, with pages for every check."""
        return Session(self.folder, settings=self.settings)

    @cached_property
    def prompt(self) -> list[int]:
        """The beginning of a text that a language model can continue."""
        room = self.spec.context_length - self.greedy_tokens
        return self.tokenizer.encode(PROMPT)[: min(PROMPT_TOKENS, room)]

    @property
    def greedy_tokens(self) -> int:
        """Number of tokens that continue the prompt; both fit into the context."""
        return min(GREEDY_TOKENS, self.spec.context_length // 2)

    @cached_property
    def passage(self) -> list[int]:
        """The beginning of a longer text."""
        affordable = int(PASSAGE_WORK / self.spec.parameters)
        most = min(PASSAGE_TOKENS, max(MIN_PASSAGE_TOKENS, affordable), self.spec.context_length)
        return self.tokenizer.encode(text("passage.txt"))[:most]

    @cached_property
    def greedy(self) -> list[int]:
        """The model's own continuation of the prompt."""
        generated: list[int] = []
        step = one_row(self.prompt)
        for _ in range(self.greedy_tokens):
            generated.append(int(self.session.run(step)[-1].argmax()))
            step = one_row(generated[-1:], len(self.prompt) + len(generated) - 1)
        return generated

    @cached_property
    def _parity(self) -> tuple[NDArray[np.float32], list[OperatorError]]:
        """The exact logits of the prompt with its continuation and of the passage."""
        # The graph is built again, so that a fault of the stored one is found.
        exact = ReferenceModel(
            graph_of(self.spec, self.file),
            self.weights,
            page_layout(self.spec),
            pages=self.pages,
            page_size=PAGE_SIZE,
            threads=self.settings.thread_count,
            amount=self.amount,
        )
        step = prompt = one_row(self.prompt)
        if self.spec.pooling is None:
            first_page = 2 * pages_for(PROMPT_TOKENS + GREEDY_TOKENS)
            step = rows(
                one_row(self.prompt + self.greedy[:-1]),
                one_row(self.passage, first_page=first_page, pages=self.pages - first_page),
            )
        return operator_errors(
            exact,
            self.stored,
            self.manifest,
            self.file,
            step,
            prompt,
            packed=self.pack(),
            settings=self.settings,
        )

    @property
    def exact_prompt_logits(self) -> NDArray[np.float32]:
        """The exact model's logits of the prompt, float32 [T, V]."""
        return self._parity[0][: len(self.prompt)]

    @property
    def exact_greedy_logits(self) -> NDArray[np.float32]:
        """The exact model's logits for each token of `greedy`, float32 [G, V]."""
        start = len(self.prompt) - 1
        return self._parity[0][start : start + len(self.greedy)]

    @property
    def exact_passage_logits(self) -> NDArray[np.float32]:
        """The exact model's logits of the passage, float32 [T, V]."""
        return self._parity[0][-len(self.passage) :]

    @property
    def operators(self) -> list[OperatorError]:
        """How far each operator is from its definition, in the order of the graph."""
        return self._parity[1]


def text(name: str) -> str:
    """A text in this package."""
    return resources.files("pipelines.validation").joinpath(name).read_text("utf-8")
