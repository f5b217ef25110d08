"""What structured output costs: streams with a JSON schema beside the same streams without."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pipelines.benchmark.figures import Rounds
from pipelines.benchmark.results import Machine
from pipelines.benchmark.workloads import Prompts
from runtime.engine import Engine
from runtime.gguf import GGUFFile
from runtime.grammar import Grammar, GrammarCompiler
from runtime.manifest import Manifest
from runtime.sampling import SamplingParameters
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer

STREAMS = 8
PROMPT_TOKENS = 32
NEW_TOKENS = 64
ROUNDS = 8
ENTRY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": ENTRY, "minItems": NEW_TOKENS}
"""Long enough that no answer ends before its last token; texts and numbers by turns."""
KINDS = {
    "greedy": SamplingParameters(temperature=0.0),
    "sampled": SamplingParameters(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=1),
}


class StructuredCost(Rounds, frozen=True, kw_only=True):
    """A token of each stream with the schema, beside one without it."""

    sampling: str
    prompt_lookup: bool


class StructuredResult(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements of one run."""

    model: str
    started_at: str
    """ISO 8601, UTC."""
    threads: int
    machine: Machine
    streams: int
    costs: tuple[StructuredCost, ...]


def measure_structured(
    folder: Path, settings: Settings, progress: Callable[[str], None], *, rounds: int = ROUNDS
) -> StructuredResult:
    """Measure in this process, the two by turns, without and with prompt lookup.

    Raises what a Session raises.
    """
    manifest = Manifest.read(folder)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(manifest.weights_path(folder)))
    costs: list[StructuredCost] = []
    for prompt_lookup in (False, True):
        chosen = msgspec.structs.replace(settings, prompt_lookup=prompt_lookup)
        engine = Engine(
            Session(folder, settings=chosen),
            end_of_generation=tokenizer.end_of_generation,
            settings=chosen,
        )
        engine.start()
        try:
            streams = _Streams(engine, tokenizer)
            for name, sampling in KINDS.items():
                lookup = "with" if prompt_lookup else "without"
                progress(f"Measuring {STREAMS} streams, {name}, {lookup} prompt lookup")
                costs.append(streams.cost(name, sampling, rounds, prompt_lookup=prompt_lookup))
        finally:
            engine.stop()
    return StructuredResult(
        model=manifest.name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=settings.thread_count,
        machine=Machine.here(),
        streams=STREAMS,
        costs=tuple(costs),
    )


class _Streams:
    """The same requests to one engine, again and again. Owned by one thread."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        prompts = Prompts(tokenizer)
        self._engine = engine
        self._prompts = [prompts.next(PROMPT_TOKENS) for _ in range(STREAMS)]
        self._grammar = Grammar.json_schema(SCHEMA, field="json_schema")
        self._compiler = GrammarCompiler(tokenizer)

    def cost(
        self, name: str, sampling: SamplingParameters, rounds: int, *, prompt_lookup: bool
    ) -> StructuredCost:
        """Measure rounds of both; the first of each, which computes the prompts, is left out."""
        plain, structured = [], []
        for _ in range(1 + rounds):
            plain.append(self._round(sampling, structured=False))
            structured.append(self._round(sampling, structured=True))
        return StructuredCost(
            sampling=name,
            prompt_lookup=prompt_lookup,
            measured=tuple(structured[1:]),
            beside=tuple(plain[1:]),
        )

    def _round(self, sampling: SamplingParameters, *, structured: bool) -> float:
        """Milliseconds per token of every stream, from the first request to the last token."""
        matchers = [
            self._compiler.matcher(self._grammar) if structured else None for _ in self._prompts
        ]
        began = time.perf_counter()
        generations = [
            self._engine.submit(prompt, sampling, NEW_TOKENS, ignore_eos=True, matcher=matcher)
            for prompt, matcher in zip(self._prompts, matchers, strict=True)
        ]
        for generation in generations:
            generation.wait(None)
        return 1e3 * (time.perf_counter() - began) / NEW_TOKENS


def markdown(result: StructuredResult) -> str:
    """A table in Markdown: milliseconds per token, and how many times as many with the schema."""
    lines = [
        f"| {result.streams} streams, ms a token | plain | JSON schema | times |"
        " times, median of rounds |",
        "|---|---:|---:|---:|---:|",
    ]
    for cost in result.costs:
        lookup = ", prompt lookup" if cost.prompt_lookup else ""
        lines.append(
            f"| {cost.sampling}{lookup} | {min(cost.beside):.2f} | {min(cost.measured):.2f} |"
            f" {cost.ratio:.3f} | {cost.median_ratio:.3f} |"
        )
    return "\n".join(lines)
