"""Masks of the tokens that grammars allow, computed in parallel with the model's step.

A request that takes its likeliest token goes on by that one instead: only where the grammar does
not allow it, a mask is made, after the step.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from runtime.grammar import GrammarFailed, Matcher
from runtime.live_request import LiveRequest
from runtime.plan import StepPlan
from runtime.sampling import AllowedLogits, Logits
from runtime.sequence import Sequence
from runtime.token_mask import TokenMask


class StepMasks:
    """The masks of one step's drawn rows, by sequence. Owned by the engine thread."""

    def __init__(self, made: dict[Sequence, "list[TokenMask] | BaseException"]) -> None:
        self._made = made
        self._allowed: AllowedLogits | None = None

    def applied(self, live: LiveRequest, guesses: int, logits: Logits, place: int) -> Logits:
        """Return the step's logits, held at `place` to what follows a number of drafted tokens.

        The request is where these tokens led. All rows with a mask get the same object, as do all
        rows that are drawn, so that these are sampled together. Raises GrammarFailed, or the
        exception raised when the mask was made.
        """
        matcher, likeliest = live.sequence.matcher, logits.likeliest[place]
        if live.sampler.takes_likeliest:
            if matcher is None or not logits.finite[place]:
                return logits
            if matcher.takes(likeliest):
                return logits
            mask = matcher.masks()[0]
        elif matcher is None or not logits.finite[place]:
            return self._held(logits) if self._made else logits
        else:
            made = self._made[live.sequence]
            if isinstance(made, BaseException):
                raise made
            mask = made[guesses]
        # Logits beyond the vocabulary are padding, which no grammar allows.
        if likeliest not in mask and not mask.any_of_first(logits.vocabulary_size):
            raise GrammarFailed("the grammar allows no token of this model")
        self._held(logits).allow(place, mask)
        return self._held(logits)

    def _held(self, logits: Logits) -> AllowedLogits:
        if self._allowed is None:
            self._allowed = AllowedLogits(logits)
        return self._allowed


class MaskMaker:
    """Makes a step's masks in a thread of its own, which starts with the first grammar.

    Owned by the engine thread. Inside `beside` the other thread owns the matchers.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")

    @contextmanager
    def beside(self, plan: StepPlan, requests: Mapping[int, LiveRequest]) -> Iterator[StepMasks]:
        """Make the masks of rows that are drawn within the block; they are complete when it ends.

        requests: by their ids.
        """
        rows = [
            (row.sequence, row.sequence.matcher, row.draft)
            for row in plan.sampled
            if row.sequence.matcher is not None
            and not requests[row.sequence.request_id].sampler.takes_likeliest
        ]
        made: dict[Sequence, list[TokenMask] | BaseException] = {}

        def make() -> None:
            for sequence, matcher, guesses in rows:
                made[sequence] = _masks(matcher, guesses)

        work = self._begin(make) if rows else None
        try:
            yield StepMasks(made)
        finally:
            if work is not None:
                work.result()

    def _begin(self, make: Callable[[], None]) -> "Future[None]":
        try:
            return self._thread.submit(make)
        except RuntimeError:  # the system has no more threads
            done: Future[None] = Future()
            make()
            done.set_result(None)
            return done


def _masks(matcher: Matcher, guesses: tuple[int, ...]) -> "list[TokenMask] | BaseException":
    try:
        return matcher.masks(guesses)
    except BaseException as problem:  # a panic of Rust code is no Exception
        return problem
