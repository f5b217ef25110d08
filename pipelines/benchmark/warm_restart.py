"""Time to the first token of a long prompt: computed, and after a restart from pages on disk."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

from pipelines.benchmark.results import Machine
from pipelines.benchmark.workloads import Prompts
from runtime.child_process import run_in_child
from runtime.engine import Engine
from runtime.errors import BenchmarkError, ChildDied
from runtime.manifest import Manifest
from runtime.sampling import SamplingParameters
from runtime.session import Session
from runtime.settings import CPU_CACHE_TOKENS, Settings
from runtime.tokenizer import Tokenizer

FUNCTION = f"{__name__}:first_token"
PROMPT_TOKENS = 8000
NEW_TOKENS = 8
RESTARTS = 3
DISK_BYTES = 1 << 40
GREEDY = SamplingParameters(temperature=0.0)


class Order(msgspec.Struct, frozen=True):
    """A process that answers one prompt."""

    folder: Path
    settings: Settings
    prompt_tokens: int


class FirstToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a new process did for the prompt's first token."""

    first_token_ms: float
    tokens: tuple[int, ...]
    """The answer."""
    known_tokens: int
    """Tokens of the prompt that were not computed."""
    copied_bytes: int
    """Bytes that the engine thread copied for the disk, in `copy_ms`."""
    copy_ms: float
    restored_bytes: int
    """Bytes that it copied into the pool, in `restore_ms`."""
    restore_ms: float


class WarmRestartResult(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements of one run."""

    model: str
    started_at: str
    """ISO 8601, UTC."""
    threads: int
    machine: Machine
    prompt_tokens: int
    computed: FirstToken
    restarted: tuple[FirstToken, ...]

    @property
    def ratio(self) -> float:
        """The median time after a restart over that of the prefill."""
        times = [each.first_token_ms for each in self.restarted]
        return median(times) / self.computed.first_token_ms


def measure_warm_restart(
    folder: Path,
    settings: Settings,
    progress: Callable[[str], None],
    *,
    prompt_tokens: int = PROMPT_TOKENS,
) -> WarmRestartResult:
    """Measure in new processes, one after the other, over an empty folder of pages.

    prompt_tokens: the length of the prompt, if the model's context and the cache hold it. Raises
    BenchmarkError if a process dies or answers something else, and what a Session raises.
    """
    manifest = Manifest.read(folder)
    held = min(manifest.context_length, settings.cache_tokens or CPU_CACHE_TOKENS)
    length = min(prompt_tokens, held - NEW_TOKENS)
    with tempfile.TemporaryDirectory(prefix="rocmforge-kv-") as pages:
        chosen = msgspec.structs.replace(
            settings, kv_disk_bytes=DISK_BYTES, kv_disk_folder=Path(pages)
        )
        order = Order(folder, chosen, length)
        progress(f"Computing {length} tokens")
        computed = _in_a_new_process(order)
        restarted = []
        for number in range(RESTARTS):
            progress(f"Restart {number + 1} of {RESTARTS}")
            restarted.append(_in_a_new_process(order))
    if any(each.tokens != computed.tokens for each in restarted):
        raise BenchmarkError("after a restart the answer is another one")
    return WarmRestartResult(
        model=manifest.name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=settings.thread_count,
        machine=Machine.here(),
        prompt_tokens=length,
        computed=computed,
        restarted=tuple(restarted),
    )


def first_token(order: Order, report: Callable[[str], None]) -> FirstToken:
    """Answer the prompt, in a process of its own."""
    session = Session(order.folder, settings=order.settings)
    tokenizer = Tokenizer.from_gguf(session.weights.gguf)
    engine = Engine(
        session,
        end_of_generation=tokenizer.end_of_generation,
        settings=order.settings,
        tiers=session.page_tiers(order.settings),
    )
    engine.start()
    try:
        prompts = Prompts(tokenizer)
        # The first step of a process also allocates its memory.
        engine.submit(prompts.next(16), GREEDY, 1).wait()
        prompt = prompts.next(order.prompt_tokens)
        generation = engine.submit(prompt, GREEDY, NEW_TOKENS, ignore_eos=True)
        generation.wait()
        tiers = engine.statistics().tiers
    finally:
        engine.stop()
    timings = generation.timings
    if timings.first_token_ns is None:
        raise BenchmarkError(f"the prompt was not answered: {generation.error}")
    return FirstToken(
        first_token_ms=(timings.first_token_ns - timings.submitted_ns) / 1e6,
        tokens=generation.tokens,
        known_tokens=generation.prefix_hit_tokens,
        copied_bytes=tiers.copied_bytes,
        copy_ms=1e3 * tiers.copy_seconds,
        restored_bytes=tiers.restored_bytes,
        restore_ms=1e3 * tiers.restore_seconds,
    )


def markdown(result: WarmRestartResult) -> str:
    """A table in Markdown: time to the first token, and what the engine thread copied for it."""
    lines = [
        f"| prompt of {result.prompt_tokens} tokens | first token, ms | tokens known |"
        " copied by the engine | in ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, each in (
        ("computed, and written to disk", result.computed),
        *(("after a restart, from disk", each) for each in result.restarted),
    ):
        copied = each.copied_bytes + each.restored_bytes
        lines.append(
            f"| {name} | {each.first_token_ms:.0f} | {each.known_tokens} |"
            f" {copied / 1e6:.1f} MB | {each.copy_ms + each.restore_ms:.1f} |"
        )
    return "\n".join([*lines, "", f"After a restart it takes {result.ratio:.3f} of the prefill."])


def _in_a_new_process(order: Order) -> FirstToken:
    try:
        return run_in_child(FUNCTION, order, lambda _: None, progress=str, answer=FirstToken)
    except ChildDied as error:
        raise BenchmarkError(f"the restart cannot be measured: {error}") from None
