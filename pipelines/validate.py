"""The checks between a converted model and its publication.

Each compares what will be served with what the GGUF says: the graph with the tensor directory, and
ONNX Runtime's logits and text with the exact model in NumPy.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from pipelines.architectures import ModelSpec, describe
from pipelines.comparison import Comparison, Figures, log_softmax, relative_error
from pipelines.convert import graph_of, page_layout
from pipelines.inspection import computed_values
from pipelines.reference import ReferenceModel
from pipelines.structure import CheckFailed, check_graph, check_weights
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, CheckResult, Manifest
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs
from runtime.tokenizer import Tokenizer, TokenizerCache

CHECKS = {
    "structure": "Checking the graph against the GGUF",
    "session": "Loading the model in ONNX Runtime",
    "logits": "Comparing logits with the exact model",
    "greedy": "Comparing greedy text with the exact model",
}
"""The checks in their order, and what each does."""

PROMPT = "The capital of France is Paris. The capital of Germany is Berlin, and the"
PROMPT_TOKENS = 24
CACHED_TOKENS = 4
GREEDY_TOKENS = 8
PAGE_SIZE = 8
PAGES = -(-(PROMPT_TOKENS + GREEDY_TOKENS) // PAGE_SIZE)

MOST_PARAMETERS = 1_500_000_000
"""Larger models are compared over as many of their first layers as stay below this."""
MOST_DIVERGENCE = 0.05
"""Mean KL divergence from the exact model, nats. The CPU kernels round activations to 8 bits, as
llama.cpp does; that costs 0.002 on a trained Q4_1 model of 135 M parameters, up to 0.01 on tiny
random ones. A wrong operator costs whole nats."""
MOST_DIVERGENCE_OF_EXPERTS = 0.5
"""The same for models with experts: where two of them are nearly as good, rounding may choose the
other, which is no error. Tiny random ones reach 0.1."""
MOST_OPERATOR_ERROR = 0.2
"""Relative error of one operator given the same inputs. Rounding activations to 8 bits costs 0.01
to 0.03; a wrong scale, offset or layout about 1."""
NEAR_TIE = 1.5
"""Nats by which the exact model may prefer its own token: twice the most by which rounded
activations were seen to move a logit of a likely token. A wrong cache costs far more."""


def validate(
    folder: Path, settings: Settings, progress: Callable[[str], None] = lambda step: None
) -> tuple[CheckResult, ...]:
    """Run the checks of a converted model in order, up to the first that fails.

    `progress` is called with what each check does as it begins.
    """
    return tuple(run_checks(folder, settings, progress))


def run_checks(
    folder: Path, settings: Settings, progress: Callable[[str], None]
) -> Iterator[CheckResult]:
    """`validate`, one result at a time."""
    validation = Validation(folder, settings)
    for name, step in CHECKS.items():
        progress(step)
        result = validation.check(name)
        yield result
        if not result.passed:
            return


class Validation:
    """A converted model under its checks, and what they share. Owned by one thread.

    Holds the exact model in float32 (at most 2 GiB) until it is dropped.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = msgspec.structs.replace(
            settings,
            device="cpu",  # the graph is checked, not a machine
            cache_tokens=2 * PAGES * PAGE_SIZE,
            page_size=PAGE_SIZE,
        )

    def check(self, name: str) -> CheckResult:
        """Run one of CHECKS; whatever goes wrong in it is its failure."""
        run: Callable[[], tuple[str, Figures]] = getattr(self, f"_check_{name}")
        began = time.perf_counter()
        figures: Figures = {}
        try:
            summary, figures = run()
            passed = True
        except CheckFailed as failure:
            passed, summary = False, str(failure)
        except Exception as error:
            passed, summary = False, f"{type(error).__name__}: {error}"
        seconds = round(time.perf_counter() - began, 3)
        return CheckResult(
            name=name, passed=passed, summary=summary, figures=figures, seconds=seconds
        )

    def _check_structure(self) -> tuple[str, Figures]:
        """The graph is valid ONNX and reads every tensor at its place in the GGUF."""
        graph = self._stored.SerializeToString(deterministic=True)
        if hashlib.sha256(graph).hexdigest() != self._manifest.graph_sha256:
            raise CheckFailed(f"{GRAPH_NAME} is not the one that was written")
        check_graph(self._stored)
        check_weights(self._stored, self._file, self._spec.folded)
        operators = len(self._stored.graph.node)
        return (
            f"{operators} operators read all {len(self._file.tensors)} tensors in place",
            {"operators": operators, "tensors": len(self._file.tensors), "bytes": len(graph)},
        )

    def _check_session(self) -> tuple[str, Figures]:
        """A session loads, and a step gives finite logits of the right shape."""
        session = Session(self._folder, settings=self._settings)
        tokens = self._prompt[:2]
        logits = session.run(one_row(tokens))
        expected = (len(tokens), self._spec.vocabulary_size)
        if logits.shape != expected:
            raise CheckFailed(f"logits have shape {logits.shape} instead of {expected}")
        if not np.isfinite(logits).all():
            raise CheckFailed("logits are not finite")
        return f"a session on {session.device} computes finite logits", {}

    def _check_logits(self) -> tuple[str, Figures]:
        """Logits of a prefill and of cached steps are those of the exact model."""
        tokens = self._prompt
        prefill = Comparison.of(
            self._exact.run(one_row(tokens)), self._session.run(one_row(tokens)).copy()
        )
        steps = _cached_steps(tokens)
        cached = Comparison.of(
            np.concatenate([self._exact.run(step) for step in steps]),
            np.concatenate([self._session.run(step).copy() for step in steps]),
        )
        worst_error, worst = self._worst_operator(one_row(tokens))
        figures = {f"prefill_{name}": value for name, value in prefill.figures().items()}
        figures |= {f"cached_{name}": value for name, value in cached.figures().items()}
        figures["operator_error"] = worst_error
        if not worst_error <= MOST_OPERATOR_ERROR:
            raise CheckFailed(f"{worst} differs from its definition by {worst_error:.0%}")
        most = MOST_DIVERGENCE_OF_EXPERTS if self._spec.has_experts else MOST_DIVERGENCE
        for name, comparison in (("a prefill", prefill), ("cached steps", cached)):
            if not comparison.divergence <= most:
                raise CheckFailed(
                    f"logits of {name} diverge from the exact model by "
                    f"{comparison.divergence:.3g} nats, more than {most}; no operator "
                    f"alone is wrong, the worst is {worst} with {worst_error:.1%}"
                )
        divergence = max(prefill.divergence, cached.divergence)
        return f"{self._compared} diverges by {divergence:.2g} nats from the exact model", figures

    def _check_greedy(self) -> tuple[str, Figures]:
        """Greedy tokens are those the exact model would take, but for near-ties."""
        prompt, generated = self._prompt, list[int]()
        step = one_row(prompt)
        for _ in range(GREEDY_TOKENS):
            generated.append(int(self._session.run(step)[-1].argmax()))
            step = one_row(generated[-1:], len(prompt) + len(generated) - 1)
        exact = self._exact.run(one_row([*prompt, *generated[:-1]]))
        likelihood = log_softmax(exact[len(prompt) - 1 :])
        gaps = likelihood.max(axis=-1) - likelihood[np.arange(GREEDY_TOKENS), generated]
        text = self._tokenizer.decode(generated)
        if not gaps.max() <= NEAR_TIE:
            first = int(np.argmax(gaps > NEAR_TIE))
            raise CheckFailed(
                f"token {first + 1} of the greedy text {text!r} is {gaps[first]:.2f} nats less "
                f"likely than the exact model's own"
            )
        same = int((gaps == 0).sum())
        ties = "" if same == GREEDY_TOKENS else f"; {GREEDY_TOKENS - same} tokens are near-ties"
        return f"continues with {text!r} as the exact model does{ties}", {
            "same_tokens": same,
            "largest_gap": float(gaps.max()),
        }

    def _worst_operator(self, inputs: StepInputs) -> tuple[float, str]:
        """Relative error and name of the first operator that is wrong, else of the worst."""
        values = computed_values(
            self._stored if self._is_whole else self._graph,
            self._weights,
            page_layout(self._compared_spec),
            inputs,
            pages=2 * PAGES,
            page_size=PAGE_SIZE,
        )
        worst, name = 0.0, "none"
        for node, outputs in self._exact.operators(values):
            error = max(
                relative_error(exact, values[key])
                for key, exact in outputs.items()
                if key in values
            )
            if not error <= worst:
                worst, name = error, self._describe_operator(node)
            if not error <= MOST_OPERATOR_ERROR:
                break
        return worst, name

    def _describe_operator(self, node: NodeProto) -> str:
        weights = [self._file.tensors[each] for each in node.input if each in self._file.tensors]
        read = "".join(f", {info.name} in {info.format}" for info in weights[:1])
        return f"{node.name} ({node.op_type}{read})"

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest.read(self._folder)

    @cached_property
    def _weights(self) -> Path:
        return self._manifest.weights_path(self._folder)

    @cached_property
    def _file(self) -> GGUFFile:
        return GGUFFile.open(self._weights)

    @cached_property
    def _spec(self) -> ModelSpec:
        return describe(self._file)

    @cached_property
    def _stored(self) -> ModelProto:
        return onnx.load_model_from_string((self._folder / GRAPH_NAME).read_bytes())

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_gguf(
            self._file, TokenizerCache(self._settings.cache_folder / "tokenizers")
        )

    @cached_property
    def _prompt(self) -> list[int]:
        room = self._spec.context_length - GREEDY_TOKENS
        return self._tokenizer.encode(PROMPT)[: max(2, min(PROMPT_TOKENS, room))]

    @cached_property
    def _compared_spec(self) -> ModelSpec:
        return first_layers(self._spec, MOST_PARAMETERS)

    @property
    def _is_whole(self) -> bool:
        return len(self._compared_spec.layers) == len(self._spec.layers)

    @property
    def _compared(self) -> str:
        count = len(self._compared_spec.layers)
        return "the model" if self._is_whole else f"the model of its first {count} layers"

    @cached_property
    def _graph(self) -> ModelProto:
        """The graph built anew, so that a fault of the stored one does not hide itself."""
        return graph_of(self._compared_spec, self._file)

    @cached_property
    def _exact(self) -> ReferenceModel:
        layout = page_layout(self._compared_spec)
        return ReferenceModel(
            self._graph, self._weights, layout, pages=2 * PAGES, page_size=PAGE_SIZE
        )

    @cached_property
    def _session(self) -> Session:
        """What is compared: the stored model itself, or its first layers."""
        if self._is_whole:
            return Session(self._folder, settings=self._settings)
        with tempfile.TemporaryDirectory(prefix="rocmforge-") as name:
            folder = Path(name)
            (folder / GRAPH_NAME).write_bytes(self._graph.SerializeToString())
            weights = msgspec.structs.replace(
                self._manifest.weights, path=str(self._weights), linked_name=None
            )
            msgspec.structs.replace(
                self._manifest, weights=weights, page_layout=page_layout(self._compared_spec)
            ).write(folder)
            return Session(folder, settings=self._settings)


def first_layers(spec: ModelSpec, most_parameters: int) -> ModelSpec:
    """The model cut after as many layers as fit, but at least one."""
    of_layer = sum(info.rows * info.columns for info in spec.layers[0].tensors())
    excess = max(0, spec.parameters - most_parameters)
    count = max(1, len(spec.layers) - -(-excess // of_layer))
    return replace(spec, layers=spec.layers[:count])


def one_row(tokens: list[int], start: int = 0, *, first_page: int = 0) -> StepInputs:
    """A step over one sequence from position `start` on, with all its logits.

    Its pages lie backwards in the pool, so that an ignored page table shows.
    """
    pages = np.arange(first_page + PAGES - 1, first_page - 1, -1, dtype=np.int32)
    return StepInputs(
        token_ids=np.array(tokens, np.int32),
        positions=np.arange(start, start + len(tokens), dtype=np.int32),
        row_starts=np.array([0, len(tokens)], np.int32),
        page_table=pages[None, :],
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )


def _cached_steps(tokens: list[int]) -> list[StepInputs]:
    """A prefill and single tokens after it, on pages of their own, untouched before."""
    cut = max(1, len(tokens) - CACHED_TOKENS)
    first = one_row(tokens[:cut], first_page=PAGES)
    single = range(cut, len(tokens))
    return [first, *(one_row([tokens[at]], at, first_page=PAGES) for at in single)]
