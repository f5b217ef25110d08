"""Draws a trace of chats: popular and rare system prompts, turns, lengths and pauses."""

import random
from bisect import bisect
from itertools import accumulate
from math import log
from typing import Annotated

import msgspec

from pipelines.simulation.chats import Chat, Count, Trace, Turn

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What chats are like. Means are of exponential distributions, times in seconds."""

    chats: Count = 30
    """Number of chats for each replica."""
    chats_per_second: Positive = 0.4
    """Mean rate at which chats begin, for each replica."""
    systems: Count = 64
    """Number of system prompts."""
    zipf: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """The k-th most popular system prompt has a share in proportion to k ** -zipf."""
    system_tokens: tuple[Count, Count] = (200, 1200)
    """The least and the most tokens of a system prompt; all lengths are equally likely."""
    turns: Positive = 4.0
    """Mean number of turns, from 1."""
    question_tokens: Positive = 40.0
    answer_tokens: Positive = 80.0
    think_seconds: Positive = 6.0
    most_tokens: Count = 4096
    """A chat ends before the turn that would make it longer."""
    seed: int = 1


def draw(traffic: Traffic, replicas: int) -> Trace:
    """Return a trace for this many replicas. Equal traffic gives equal chats on every machine.

    Only `random()` is drawn, whose values Python guarantees, and every length and time is rounded
    to a whole number, so that the last bits of a platform's logarithms do not matter.
    """
    source = random.Random(traffic.seed)
    least, most = traffic.system_tokens
    lengths = [least + int(source.random() * (most - least + 1)) for _ in range(traffic.systems)]
    shares = list(accumulate(rank**-traffic.zipf for rank in range(1, traffic.systems + 1)))
    between_ms = 1000 / (traffic.chats_per_second * replicas)
    chats: list[Chat] = []
    start_ms = 0.0
    for _ in range(traffic.chats * replicas):
        start_ms += _exponential(source, between_ms)
        system = min(bisect(shares, source.random() * shares[-1]), traffic.systems - 1)
        chats.append(
            Chat(
                start_ms=round(start_ms),
                system=str(system),
                system_tokens=lengths[system],
                turns=_turns(source, traffic, lengths[system]),
            )
        )
    return tuple(chats)


def _turns(source: random.Random, traffic: Traffic, tokens: int) -> tuple[Turn, ...]:
    """Draw turns while the chat, which has `tokens` tokens already, stays short enough."""
    turns: list[Turn] = []
    while not turns or source.random() < 1 - 1 / traffic.turns:
        turn = Turn(
            question=1 + round(_exponential(source, traffic.question_tokens - 1)),
            answer=1 + round(_exponential(source, traffic.answer_tokens - 1)),
            think_ms=round(_exponential(source, 1000 * traffic.think_seconds)) if turns else 0,
        )
        tokens += turn.question + turn.answer
        if turns and tokens > traffic.most_tokens:
            break
        turns.append(turn)
    return tuple(turns)


def _exponential(source: random.Random, mean: float) -> float:
    return -max(mean, 0.0) * log(1.0 - source.random())
