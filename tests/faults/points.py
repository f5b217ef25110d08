"""The named points at which something is made to fail, and whom that may hurt.

A test arms one and lets a victim (VICTIM_PROMPT, VICTIM_SEED) run in a batch with others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pytest

from api.request_log import RequestLog
from api.telemetry.metrics import RequestDurations
from runtime import logprobs
from runtime.drafts import PromptLookup
from runtime.engine_core import EngineCore
from runtime.generation import Generation
from runtime.grammar import Grammar, GrammarCompiler, Matcher
from runtime.pages import PageManager
from runtime.sampling import Logits, Sampler, SamplingParameters, StepLogits, sampler
from runtime.scheduler import Scheduler
from runtime.step import StepInputs
from runtime.tokenizer import Tokenizer
from tests.held_session import Fault, HeldSession

VICTIM_PROMPT = [201, 202, 203, 201, 202, 203, 201, 202, 203]
"""Repeats itself, so that guesses are made. No other prompt has its first tokens."""
VICTIM_SEED = 424242
OTHER_PROMPTS = ([1, 2, 3, 4, 5, 6, 7], [9, 8, 7, 6], list(range(20, 60)))
SECRET = "/secret/path/of/the/server"
"""Stands in every exception; no client may read it."""


class Hurts(StrEnum):
    """Whom a fault ends."""

    NOBODY = "nobody"
    VICTIM = "the victim"
    STEP = "those in the step"
    ENGINE = "everyone, and the process"


class Panic(BaseException):
    """As what a library in Rust throws: no Exception."""


@dataclass(frozen=True)
class FaultPoint:
    """One point: `arm` makes it fail, for the victim alone where that is possible."""

    name: str
    hurts: Hurts
    arm: Callable[[pytest.MonkeyPatch, HeldSession], None]


def _replaced(
    owner: Any, name: str, concerns: Callable[..., bool], error: BaseException
) -> Callable[[pytest.MonkeyPatch, HeldSession], None]:
    """Makes a method or function raise where its arguments concern the victim."""

    def arm(patch: pytest.MonkeyPatch, session: HeldSession) -> None:
        original = getattr(owner, name)

        def raising(*arguments: Any, **named: Any) -> Any:
            if concerns(*arguments, **named):
                raise error
            return original(*arguments, **named)

        is_static = isinstance(vars(owner)[name], staticmethod)
        patch.setattr(owner, name, staticmethod(raising) if is_static else raising)

    return arm


def _step(fault: Fault) -> Callable[[pytest.MonkeyPatch, HeldSession], None]:
    """Makes the steps that hold the victim do something else."""

    def arm(patch: pytest.MonkeyPatch, session: HeldSession) -> None:
        def step(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
            return fault(inputs, compute) if victim_row(inputs) is not None else compute(inputs)

        session.fault = step

    return arm


def _follows_a_grammar(
    name: str, error: BaseException
) -> Callable[[pytest.MonkeyPatch, HeldSession], None]:
    """Gives the victim, and nobody else, a grammar, of which a method raises."""

    def arm(patch: pytest.MonkeyPatch, session: HeldSession) -> None:
        tokenizer = Tokenizer.from_gguf(session.gguf)
        matcher = GrammarCompiler(tokenizer).matcher(Grammar.regex("(?s:.){500}", field="regex"))
        add = EngineCore.add

        def adding(core: EngineCore, generation: Generation) -> None:
            if _is_victim(generation):
                generation.matcher = matcher.copy()
            add(core, generation)

        patch.setattr(EngineCore, "add", adding)
        _replaced(Matcher, name, _always, error)(patch, session)

    return arm


def _asks_for_logprobs(
    name: str, error: BaseException
) -> Callable[[pytest.MonkeyPatch, HeldSession], None]:
    """Lets the victim, and nobody else, ask for logprobs, which then fail.

    name: the field of its request that asks.
    """

    def arm(patch: pytest.MonkeyPatch, session: HeldSession) -> None:
        add = EngineCore.add

        def adding(core: EngineCore, generation: Generation) -> None:
            if _is_victim(generation):
                setattr(generation, name, 2)
            add(core, generation)

        def fail(*_: object) -> None:
            raise error

        patch.setattr(EngineCore, "add", adding)
        patch.setattr(logprobs, "token_logprobs", fail)

    return arm


def _raising(error: BaseException) -> Fault:
    def fault(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
        raise error

    return fault


def victim_row(inputs: StepInputs) -> int | None:
    """The row in which the victim's prompt begins, if one does."""
    for row, start in enumerate(inputs.row_starts[:-1]):
        if inputs.positions[start] == 0 and inputs.token_ids[start] == VICTIM_PROMPT[0]:
            return row
    return None


def _not_finite(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
    """The victim's logits are NaN, as from a device that failed."""
    logits = compute(inputs)
    row = victim_row(inputs)
    assert row is not None
    assert isinstance(logits, StepLogits)
    last = inputs.row_starts[row + 1] - 1
    values = logits.values.copy()
    values[np.flatnonzero(inputs.logit_rows == last)] = np.nan
    return StepLogits(values)


def _too_few(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
    logits = compute(inputs)
    assert isinstance(logits, StepLogits)
    return StepLogits(logits.values[:0].reshape(0, logits.vocabulary_size))


def _is_victim_s_sampler(sampler: Sampler, *_: object) -> bool:
    return sampler._parameters.seed == VICTIM_SEED


def _is_victim_s_parameters(_: Sampler, parameters: SamplingParameters, *__: object) -> bool:
    return parameters.seed == VICTIM_SEED


def _are_victim_s_parameters(parameters: SamplingParameters, *_: object) -> bool:
    return parameters.seed == VICTIM_SEED


def _is_victim_s_row(_: Scheduler, row: Any, *__: object) -> bool:
    return bool(row.sequence.tokens[:3] == VICTIM_PROMPT[:3])


def _is_victim(generation: Generation, *_: object) -> bool:
    return generation.prompt_tokens[:3] == tuple(VICTIM_PROMPT[:3])


def _observes_victim(_: object, generation: Generation) -> bool:
    return _is_victim(generation)


def _guesses_for_victim(_: PromptLookup, tokens: list[int], most: int) -> bool:
    return tokens[:3] == VICTIM_PROMPT[:3]


def _removes_victim(_: Scheduler, sequence: Any) -> bool:
    return bool(sequence.tokens[:3] == VICTIM_PROMPT[:3])


def _has_victim(scheduler: Scheduler, *_: object) -> bool:
    return any(s.tokens[:3] == VICTIM_PROMPT[:3] for s in scheduler.sequences())


def _takes_victim_in(_: EngineCore, generation: Generation) -> bool:
    return _is_victim(generation)


def _always(*_: object) -> bool:
    return True


POINTS = (
    FaultPoint(
        "the sampler raises",
        Hurts.VICTIM,
        _replaced(Sampler, "row", _is_victim_s_sampler, IndexError(SECRET)),
    ),
    FaultPoint(
        "the sampler has no memory",
        Hurts.VICTIM,
        _replaced(Sampler, "row", _is_victim_s_sampler, MemoryError()),
    ),
    FaultPoint(
        "the sampler panics",
        Hurts.VICTIM,
        _replaced(Sampler, "row", _is_victim_s_sampler, Panic(SECRET)),
    ),
    FaultPoint(
        "the sampler asks to exit",
        Hurts.VICTIM,
        _replaced(Sampler, "row", _is_victim_s_sampler, SystemExit(3)),
    ),
    FaultPoint(
        "the sampler cannot take a token in",
        Hurts.VICTIM,
        _replaced(Sampler, "accept", _is_victim_s_sampler, Panic(SECRET)),
    ),
    FaultPoint(
        "a row cannot be sampled",
        Hurts.VICTIM,
        _replaced(sampler, "template_of", _are_victim_s_parameters, MemoryError()),
    ),
    FaultPoint(
        "no sampler can be made",
        Hurts.VICTIM,
        _replaced(Sampler, "__init__", _is_victim_s_parameters, ValueError(SECRET)),
    ),
    FaultPoint("a mask cannot be made", Hurts.VICTIM, _follows_a_grammar("masks", Panic(SECRET))),
    FaultPoint(
        "a grammar does not go on", Hurts.VICTIM, _follows_a_grammar("advance", ValueError(SECRET))
    ),
    FaultPoint(
        "guesses cannot be compared with a grammar",
        Hurts.NOBODY,
        _follows_a_grammar("allowed_of", Panic(SECRET)),
    ),
    FaultPoint("the logits are not finite", Hurts.VICTIM, _step(_not_finite)),
    FaultPoint(
        "a token cannot be handed out",
        Hurts.VICTIM,
        _replaced(Generation, "append", _is_victim, OSError(SECRET)),
    ),
    FaultPoint(
        "guesses cannot be settled",
        Hurts.VICTIM,
        _replaced(Scheduler, "settle", _is_victim_s_row, Panic(SECRET)),
    ),
    FaultPoint(
        "logprobs cannot be computed",
        Hurts.VICTIM,
        _asks_for_logprobs("top_logprobs", MemoryError()),
    ),
    FaultPoint(
        "logprobs of a prompt cannot be computed",
        Hurts.VICTIM,
        _asks_for_logprobs("prompt_top_logprobs", Panic(SECRET)),
    ),
    FaultPoint(
        "guessing raises",
        Hurts.NOBODY,
        _replaced(PromptLookup, "propose", _guesses_for_victim, Panic(SECRET)),
    ),
    FaultPoint(
        "the observer raises",
        Hurts.NOBODY,
        _replaced(RequestDurations, "finished", _observes_victim, ValueError(SECRET)),
    ),
    FaultPoint(
        "the list of requests raises",
        Hurts.NOBODY,
        _replaced(RequestLog, "finished", _observes_victim, MemoryError()),
    ),
    FaultPoint(
        "the observer asks to exit",
        Hurts.NOBODY,
        _replaced(RequestDurations, "finished", _observes_victim, SystemExit(3)),
    ),
    FaultPoint("the step raises", Hurts.STEP, _step(_raising(RuntimeError(SECRET)))),
    FaultPoint("the step has no memory", Hurts.STEP, _step(_raising(MemoryError()))),
    FaultPoint("the step gives too few logits", Hurts.STEP, _step(_too_few)),
    FaultPoint("the step asks to exit", Hurts.ENGINE, _step(_raising(SystemExit(0)))),
    FaultPoint("the step panics", Hurts.ENGINE, _step(_raising(Panic(SECRET)))),
    FaultPoint(
        "the scheduler raises",
        Hurts.ENGINE,
        _replaced(Scheduler, "plan", _has_victim, AssertionError(SECRET)),
    ),
    FaultPoint(
        "taking a request in raises",
        Hurts.ENGINE,
        _replaced(EngineCore, "add", _takes_victim_in, MemoryError()),
    ),
    FaultPoint(
        "pages cannot be given back",
        Hurts.ENGINE,
        _replaced(Scheduler, "remove", _removes_victim, AssertionError(SECRET)),
    ),
    FaultPoint(
        "no page can be given back",
        Hurts.ENGINE,
        _replaced(PageManager, "release", _always, AssertionError(SECRET)),
    ),
)
POINT_BY_NAME = {point.name: point for point in POINTS}
