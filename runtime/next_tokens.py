"""Samples each row's next tokens from a step's logits, and finds logits that are not finite."""

from collections.abc import Mapping
from collections.abc import Sequence as AnySequence
from itertools import accumulate

from runtime.live_request import LiveRequest
from runtime.masks import StepMasks
from runtime.plan import PlannedRow, StepPlan
from runtime.sampling import Logits, Sampler, sample
from runtime.sequence import Sequence


def next_tokens(
    rows: AnySequence[PlannedRow],
    requests: Mapping[int, LiveRequest],
    logits: Logits,
    masks: StepMasks,
) -> list[list[int] | BaseException]:
    """Return each row's next tokens, at least one, or why they could not be chosen.

    rows: a plan's sampled rows, in the order of the logits. requests: by their ids.

    If a drafted token is the sampled one, the logits after it are the model's own, and the next
    token is sampled from them: the same draws from the same logits as one token per step.
    """
    chosen: list[list[int]] = [[] for _ in rows]
    failures: dict[int, BaseException] = {}
    starts = list(accumulate((row.logits for row in rows), initial=0))
    going_on = list(range(len(rows)))
    while going_on:
        tokens: dict[int, int | BaseException] = {}
        asked: dict[int, tuple[Sampler, Logits, int]] = {}
        for index in going_on:
            row, drafted = rows[index], len(chosen[index])
            live = requests[row.sequence.request_id]
            try:
                if live.thought_limit is not None and live.thought_limit.forced is not None:
                    tokens[index] = live.thought_limit.forced
                    continue
                place = starts[index] + drafted
                allowed = masks.applied(live, drafted, logits, place)
                asked[index] = live.sampler, allowed, place
            except BaseException as problem:
                tokens[index] = problem
        tokens.update(zip(asked, sample(list(asked.values())), strict=True))
        going_on = []
        for index, token in sorted(tokens.items()):
            try:
                live = requests[rows[index].sequence.request_id]
                if _goes_on(live, rows[index], chosen[index], token):
                    going_on.append(index)
            except BaseException as problem:
                failures[index] = problem
    return [failures.get(index, tokens) for index, tokens in enumerate(chosen)]


def _goes_on(
    live: LiveRequest, row: PlannedRow, tokens: list[int], token: int | BaseException
) -> bool:
    """Add a row's next token; return whether the one after it can be sampled, too.

    Raises `token` if it is an exception.
    """
    if isinstance(token, BaseException):
        raise token
    is_drafted = row.draft[len(tokens) : len(tokens) + 1] == (token,)
    tokens.append(token)
    live.follow(token)
    return is_drafted and live.ending(tokens) is None


def unsound_sequences(plan: StepPlan, logits: Logits) -> set[Sequence]:
    """Return the sequences of a step with logits that are not finite."""
    found: set[Sequence] = set()
    if all(logits.finite):
        return found
    at = 0
    for row in plan.sampled:
        if not logits.finite[at]:
            found.add(row.sequence)
        at += row.logits
    for row, positions in plan.scored:
        if not all(logits.finite[at : at + len(positions)]):
            found.add(row.sequence)
        at += len(positions)
    return found
