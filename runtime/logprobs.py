"""Adds the logprobs of a step's tokens to the requests that ask for them."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as AnySequence

from runtime.generation import Generation
from runtime.plan import PlannedRow, StepPlan
from runtime.sampling import Logits, token_logprobs


def record(
    plan: StepPlan,
    samples: AnySequence[list[int]],
    logits: Logits,
    generations: Mapping[int, Generation],
) -> Iterator[tuple[PlannedRow, BaseException]]:
    """Add the logprobs of prompts and of sampled tokens to their requests.

    samples: the tokens of each of the plan's sampled rows. generations: the requests by their id;
    rows of others, and requests that do not ask, are left out. Yields the rows for which this
    failed, whose requests have nothing to show.
    """
    at = 0
    for row, tokens in zip(plan.sampled, samples, strict=True):
        generation = generations.get(row.sequence.request_id)
        if generation is not None and (count := generation.top_logprobs) is not None:
            try:
                for place, token in enumerate(tokens, at):
                    generation.logprobs.append(token_logprobs(logits, place, token, count))
            except BaseException as problem:
                yield row, problem
        at += row.logits
    for row, positions in plan.scored:
        generation = generations.get(row.sequence.request_id)
        if generation is not None and (count := generation.prompt_top_logprobs) is not None:
            try:
                for place, position in enumerate(positions, at):
                    token = row.sequence.tokens[position + 1]
                    scored = token_logprobs(logits, place, token, count)
                    generation.prompt_logprobs.append(scored)
                row.sequence.scored = positions.stop
            except BaseException as problem:
                yield row, problem
        at += len(positions)
