"""Slots of recurrent state: the scheduler's plans, with a simulated model."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runtime.drafts import DRAFTED_STEP, PromptLookup
from runtime.interface import NO_SLOT
from runtime.pages import PageManager
from runtime.plan import StepPlan
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence
from runtime.sequence_states import SequenceStates
from runtime.states import StateSlots, slots_needed

PAGE_SIZE = 4


def make(
    snapshots: int, *, page_count: int = 64, token_budget: int = 64, running: int = 4
) -> tuple[Scheduler, StateSlots]:
    slots = StateSlots(slots_needed(running) + snapshots, running=running, pages=page_count)
    pages = PageManager(page_count, PAGE_SIZE, forgotten=[slots.forget])
    states = SequenceStates(slots, PAGE_SIZE)
    scheduler = Scheduler(pages, token_budget=token_budget, max_running=running, states=states)
    return scheduler, slots


def run(scheduler: Scheduler, sequence: Sequence, steps: int = 1) -> StepPlan:
    """Compute a sequence alone, with 9 as each next token; gives the first plan."""
    scheduler.add(sequence)
    first = None
    for _ in range(steps):
        plan = scheduler.plan()
        assert plan is not None
        first = first or plan
        scheduler.commit(plan)
        for row in plan.sampled:
            scheduler.settle(row, 0)
            row.sequence.tokens.append(9)
    scheduler.remove(sequence)
    scheduler.check_integrity()
    assert first is not None
    return first


def test_an_equal_prompt_goes_on_from_the_last_snapshot_before_its_end() -> None:
    scheduler, slots = make(snapshots=8)
    run(scheduler, Sequence(1, list(range(12))))
    (row,) = run(scheduler, Sequence(2, list(range(12)))).rows
    assert (row.start, row.count) == (8, 4)  # the last token must be computed
    (row,) = run(scheduler, Sequence(3, list(range(13)))).rows
    assert (row.start, row.count) == (12, 1)
    assert not slots.is_shared(row.states[13])


def test_a_chat_goes_on_from_the_end_of_its_last_answer() -> None:
    scheduler, _ = make(snapshots=8)
    answered = Sequence(1, list(range(10)))
    run(scheduler, answered, steps=12)
    (row,) = run(scheduler, Sequence(2, [*answered.tokens, 5])).rows
    assert row.start == 20


def test_without_room_for_snapshots_everything_is_computed_again() -> None:
    scheduler, _ = make(snapshots=0)
    run(scheduler, Sequence(1, list(range(12))))
    (row,) = run(scheduler, Sequence(2, list(range(12)))).rows
    assert (row.start, row.state_start, list(row.states)) == (0, NO_SLOT, [12])


def test_with_little_room_snapshots_stand_where_prompts_part_and_where_they_end() -> None:
    scheduler, slots = make(snapshots=4)
    assert slots.stride == 32
    beginning = list(range(30))
    (row,) = run(scheduler, Sequence(1, [*beginning, 100, 101, 102])).rows
    assert sorted(row.states) == [32, 33]
    (row,) = run(scheduler, Sequence(2, [*beginning, 200, 201, 202])).rows
    assert sorted(row.states) == [28, 32, 33]  # 28 tokens stand in known pages
    (row,) = run(scheduler, Sequence(3, [*beginning, 300, 301, 302])).rows
    assert row.start == 28


def test_the_least_recently_used_snapshot_makes_room() -> None:
    slots = StateSlots(slots_needed(1) + 2, running=1, pages=2)
    first, second = slots.take(), slots.take()
    assert slots.publish(first, b"1")
    assert slots.publish(second, b"2")
    third = slots.take()
    assert not slots.publish(third, b"3")  # both are held
    slots.release(first)
    slots.release(second)
    assert slots.find(b"1") == first
    slots.release(first)
    assert slots.publish(third, b"3")
    assert [slots.knows(each) for each in (b"1", b"2", b"3")] == [True, False, True]


def test_a_page_that_nobody_can_find_takes_its_snapshot_along() -> None:
    scheduler, slots = make(snapshots=8, page_count=4)
    first = Sequence(1, list(range(12)))
    run(scheduler, first)
    assert slots.knows(first.hashes[2])
    run(scheduler, Sequence(2, list(range(100, 116))))
    assert not slots.knows(first.hashes[2])


def test_releasing_too_often_is_a_bug_that_shows() -> None:
    slots = StateSlots(slots_needed(1), running=1, pages=1)
    slot = slots.take()
    slots.release(slot)
    with pytest.raises(AssertionError, match="more often"):
        slots.release(slot)


def next_token(tokens: list[int]) -> int:
    """What the simulated model says: it often repeats itself, so that guesses hold."""
    return (tokens[-1] + len(tokens) // 5) % 3


@hypothesis_settings(max_examples=150)
@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=24), min_size=1, max_size=8),
    answers=st.integers(1, 20),
    page_count=st.integers(12, 24),
    token_budget=st.integers(1, 32),
    running=st.integers(1, 4),
    snapshots=st.integers(0, 12),
    arrivals=st.randoms(use_true_random=False),
)
def test_every_state_is_that_of_the_sequences_own_past_whatever_the_load(
    prompts, answers, page_count, token_budget, running, snapshots, arrivals
) -> None:
    """A simulated model keeps in each slot which tokens its state comes from."""
    scheduler, _ = make(
        snapshots, page_count=page_count, token_budget=token_budget, running=running
    )
    pool: dict[int, tuple[int, ...]] = {}
    waiting = [Sequence(i, list(prompt), PromptLookup()) for i, prompt in enumerate(prompts)]
    done = 0
    for _ in range(5000):
        while waiting and arrivals.random() < 0.5:
            scheduler.add(waiting.pop(0))
        plan = scheduler.plan()
        if plan is None:
            if not waiting:
                break
            continue
        inputs = plan.inputs()
        assert inputs.state_starts is not None
        assert inputs.state_slots is not None
        used: set[int] = set()
        for index, row in enumerate(plan.rows):
            start = int(inputs.state_starts[index])
            known = pool[start] if start != NO_SLOT else ()
            assert known == tuple(row.sequence.tokens[: row.start])
            span = slice(inputs.row_starts[index], inputs.row_starts[index + 1])
            written = [int(slot) for slot in inputs.state_slots[span] if slot != NO_SLOT]
            assert not used.intersection(written)
            used.update(written)
        starts = [int(slot) for slot in inputs.state_starts]
        for index, row in enumerate(plan.rows):
            others = {slot for other, slot in enumerate(starts) if other != index}
            span = slice(inputs.row_starts[index], inputs.row_starts[index + 1])
            for position, slot in enumerate(inputs.state_slots[span], row.start + 1):
                if slot != NO_SLOT:
                    assert slot not in others
                    past = [*row.sequence.tokens[: row.start], *row.token_ids()]
                    pool[int(slot)] = tuple(past[:position])
        scheduler.commit(plan)
        for row in plan.sampled:
            sequence = row.sequence
            new = [next_token(sequence.tokens)]
            for guess in row.draft:
                if guess != new[-1]:
                    break
                new.append(next_token([*sequence.tokens, *new]))
            scheduler.settle(row, len(new) - 1)
            sequence.tokens += new
            if len(sequence.tokens) >= len(prompts[sequence.request_id]) + answers:
                scheduler.remove(sequence)
                done += 1
        scheduler.check_integrity()
    assert done == len(prompts)


def test_guesses_have_slots_of_their_own() -> None:
    scheduler, _ = make(snapshots=0, running=1)
    sequence = Sequence(1, [1, 2, 3, 4, 5, 6, 7, 8] * 2, PromptLookup())
    scheduler.add(sequence)
    plan = scheduler.plan()
    assert plan is not None
    scheduler.commit(plan)
    scheduler.settle(plan.rows[0], 0)
    sequence.tokens.append(1)
    plan = scheduler.plan()
    assert plan is not None
    (row,) = plan.rows
    assert 0 < len(row.draft) <= DRAFTED_STEP
    assert sorted(row.states) == list(range(row.end - len(row.draft), row.end + 1))
    assert len(set(row.states.values())) == len(row.states)
    scheduler.commit(plan)
    scheduler.settle(row, 2)
    assert sequence.states == {row.start + 3: row.states[row.start + 3]}
