"""The requests of each measurement, and prompts of a given length."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from pipelines.benchmark.figures import (
    decode_tokens_per_second,
    first_token_ms,
    prefill_tokens_per_second,
    streams_figures,
    streams_latencies,
)
from pipelines.benchmark.load import CompletionRequest, complete
from runtime.server_process import Capacity
from runtime.tokenizer import Tokenizer

SENTENCES = (
    "The harbour master counted the boats twice before the fog came in.",
    "Nobody had told the baker that the mill would be closed on Monday.",
    "A letter arrived in spring, and it changed what the family thought of the farm.",
    "Iron expands when it is heated, which is why the bridge has a gap at either end.",
    "She kept her notes in pencil, since ink ran in the rain.",
    "The committee asked for a shorter report with fewer adjectives and more numbers.",
    "On clear nights the children named the stars after the goats.",
    "Water from the upper lake reaches the village after about three days.",
    "He learned the tune by ear and never found out who had written it.",
    "Prices rose in the autumn, fell before Christmas, and stayed there until June.",
    "Most of the books had been moved to the cellar, where it was dry.",
    "If the signal is lost, the train stops by itself within four hundred metres.",
    "They planted apple trees along the wall and waited seven years.",
    "The second experiment failed for a reason that the first one had hidden.",
    "Her grandfather repaired clocks, and he would not be hurried.",
    "A path leads from the station across two fields to the old school.",
    "The map was right about the river and wrong about everything else.",
    "Before winter the shepherds bring the flock down from the high meadows.",
    "What the engineer called a detail took the whole of the following year.",
    "You can hear the sea from the kitchen when the wind is in the west.",
    "Three of the five lamps in the corridor had burned out during the holidays.",
    "The glass must cool slowly, over a night and a day, or it will crack.",
    "A ferry crosses the strait every hour until the tide turns.",
    "Her cousin wrote the minutes in a small and careful hand.",
    "When the orchestra tuned, the dog under the piano began to sing.",
    "Salt was carried over the pass by mules before the tunnel was dug.",
    "The museum keeps two swords, a saddle and the diary of a cook.",
    "Farmers on the northern slope cut their hay a fortnight later.",
    "It took the court eleven minutes to agree on what everyone knew.",
    "Bees find their way home by the sun even when it is behind a cloud.",
    "The new clerk sorted the parcels by weight instead of by street.",
    "A bridge of rope hung there until the flood of that September.",
    "Old varnish turns yellow, so the sky in the painting looked like evening.",
    "Our neighbour measures rain with a jam jar and a wooden ruler.",
    "The printer mixed up two pages, and for once the story was better.",
    "Under the floor they found coins, a thimble and a list of debts.",
    "Copper pipes sing at night because they shrink as they cool.",
    "The swimmer turned back when she could no longer see the lighthouse.",
    "Every seventh year the field was left to the thistles.",
    "Two languages are spoken in the valley, and a third at weddings.",
)


Count = Annotated[int, msgspec.Meta(ge=1)]
NewTokens = Annotated[int, msgspec.Meta(ge=2)]
"""Fewer have no time between them."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. The defaults are those of every published table."""

    short_prompt_tokens: Count = 16
    short_new_tokens: NewTokens = 128
    long_prompt_tokens: Count = 512
    long_new_tokens: NewTokens = 64
    copied_tokens: Annotated[int, msgspec.Meta(ge=4)] = 160
    """Tokens of a prompt whose text is to be copied; about half of it is."""
    stream_counts: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] = (1, 8, 32)
    stream_prompt_tokens: Count = 128
    stream_new_tokens: NewTokens = 128
    single_rounds: Count = 5
    """Number of rounds with one stream."""
    stream_rounds: Count = 3
    """Rounds of many streams."""
    starts: Count = 3

    def capacity(self, streams: int) -> Capacity:
        """Return the capacity that a server needs for workloads of this many streams."""
        tokens = self.stream_prompt_tokens + self.stream_new_tokens
        if streams == 1:
            tokens = max(
                tokens, self.long_prompt_tokens + self.long_new_tokens, 2 * self.copied_tokens
            )
        # Twice: some servers part with a slot's cache only as the next request takes it.
        return Capacity(streams=streams, tokens_per_stream=2 * tokens)


QUICK = Plan(
    short_new_tokens=64,
    long_new_tokens=32,
    stream_new_tokens=32,
    single_rounds=2,
    stream_rounds=1,
    starts=1,
)
"""About a minute for one server on two processors and the sample model."""


class Prompts:
    """Prompts of exactly some length; no two begin alike. Owned by one thread.

    English sentences in an order of their own, after a number of their own: so no server finds a
    prompt's prefix in its cache, and the text is like ordinary prompts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._numbers = itertools.count(1)

    def copying(self, length: int) -> tuple[int, ...]:
        """A text of at least `length` tokens with the request to copy it, and the copy begun."""
        number = next(self._numbers)
        sentences = random.Random(number).sample(SENTENCES, len(SENTENCES))
        begun = " ".join(sentences[0].split()[:4])
        for count in range(1, len(sentences) + 1):
            text = " ".join(sentences[:count])
            tokens = self._tokenizer.encode(
                f"{str(number)[::-1]}. The text:\n\n{text}\n\n"
                f"The same text again, word for word:\n\n{begun}"
            )
            if len(tokens) >= length:
                break
        return tuple(tokens)

    def next(self, length: int) -> tuple[int, ...]:
        """The next prompt, cut to `length` tokens."""
        number = next(self._numbers)
        # The number alternates its digits' order, so that 1 and 10 differ in the first token.
        text = f"{str(number)[::-1]}. "
        order = random.Random(number)
        tokens: list[int] = []
        while len(tokens) < length:
            text += " ".join(order.sample(SENTENCES, len(SENTENCES))) + " "
            tokens = self._tokenizer.encode(text)
        return tuple(tokens[:length])


@dataclass(frozen=True, slots=True)
class Round:
    """Results of one round of a workload."""

    figures: dict[str, float]
    latencies: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Single times in milliseconds, by kind, if there are many."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests, and the figures of one round of them. The same round goes to every server."""

    title: str
    rounds: int
    requests: Callable[[Prompts], tuple[CompletionRequest, ...]]
    measure: Callable[[str, Sequence[CompletionRequest]], Round]
    """Sends them to a server's address."""


def workloads(plan: Plan, streams: int) -> list[Workload]:
    """Return the workloads of a server that was started for this many streams."""
    many = Workload(
        title=f"{streams} stream{'s' if streams > 1 else ''}",
        rounds=plan.stream_rounds if streams > 1 else plan.single_rounds,
        requests=lambda prompts: tuple(
            CompletionRequest(prompts.next(plan.stream_prompt_tokens), plan.stream_new_tokens)
            for _ in range(streams)
        ),
        measure=_streams,
    )
    if streams > 1:
        return [many]
    short = Workload(
        title="short prompt",
        rounds=plan.single_rounds,
        requests=lambda prompts: (
            CompletionRequest(prompts.next(plan.short_prompt_tokens), plan.short_new_tokens),
        ),
        measure=_short,
    )
    long = Workload(
        title="long prompt, twice",
        rounds=plan.single_rounds,
        requests=lambda prompts: (
            CompletionRequest(prompts.next(plan.long_prompt_tokens), plan.long_new_tokens),
        ),
        measure=_long_twice,
    )
    copying = Workload(
        title="text that copies its prompt",
        rounds=plan.single_rounds,
        requests=lambda prompts: (
            CompletionRequest(prompts.copying(plan.copied_tokens), plan.copied_tokens // 2),
        ),
        measure=_copying,
    )
    return [short, long, copying, many]


def warm_up(plan: Plan, prompts: Prompts) -> tuple[CompletionRequest, ...]:
    """A request before the first that counts: threads started, weights in the page cache."""
    return (CompletionRequest(prompts.next(plan.stream_prompt_tokens), 8),)


def _streams(url: str, requests: Sequence[CompletionRequest]) -> Round:
    records = complete(url, requests)
    return Round(streams_figures(records), streams_latencies(records))


def _short(url: str, requests: Sequence[CompletionRequest]) -> Round:
    (record,) = complete(url, requests)
    return Round({"decode_short_tokens_per_second": decode_tokens_per_second(record)})


def _copying(url: str, requests: Sequence[CompletionRequest]) -> Round:
    (record,) = complete(url, requests)
    return Round({"decode_copying_tokens_per_second": decode_tokens_per_second(record)})


def _long_twice(url: str, requests: Sequence[CompletionRequest]) -> Round:
    (cold,) = complete(url, requests)
    (warm,) = complete(url, requests)
    decode = decode_tokens_per_second(cold)
    return Round(
        {
            "prefill_tokens_per_second": prefill_tokens_per_second(cold),
            "decode_long_tokens_per_second": decode,
            "prefix_cold_ms": first_token_ms(cold),
            "prefix_warm_ms": first_token_ms(warm),
            "prefix_warm_decode_steps": first_token_ms(warm) / 1000 * decode,
        }
    )
