import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runtime.drafts import FORCED_STEP, MAX_DRAFT, PromptLookup
from runtime.grammar import Grammar, GrammarCompiler
from runtime.pages import PageManager
from runtime.plan import StepPlan
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence
from runtime.tokenizer import Tokenizer


def make(
    page_count: int = 64, page_size: int = 4, token_budget: int = 8, max_running: int = 8
) -> tuple[Scheduler, PageManager]:
    pages = PageManager(page_count, page_size)
    return Scheduler(pages, token_budget=token_budget, max_running=max_running), pages


def shape(plan: StepPlan | None) -> list[tuple[int, int, int, bool]]:
    assert plan is not None
    return [(r.sequence.request_id, r.start, r.count, r.samples) for r in plan.rows]


def finish_step(scheduler: Scheduler, plan: StepPlan | None, token: int = 9) -> None:
    assert plan is not None
    scheduler.commit(plan)
    for row in plan.sampled:
        row.sequence.tokens.append(token)


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    scheduler, _ = make(token_budget=8)
    scheduler.add(Sequence(1, list(range(20))))
    seen = []
    for _ in range(4):
        plan = scheduler.plan()
        seen += shape(plan)
        finish_step(scheduler, plan)
    assert seen == [(1, 0, 8, False), (1, 8, 8, False), (1, 16, 4, True), (1, 20, 1, True)]


def test_a_generating_sequence_goes_before_the_chunks_of_a_prompt() -> None:
    scheduler, _ = make(token_budget=8)
    scheduler.add(Sequence(1, list(range(12))))
    finish_step(scheduler, scheduler.plan())
    scheduler.add(Sequence(2, [1, 2, 3, 4]))
    # The first prompt needs 4 more, the second is taken in with the rest of the budget.
    plan = scheduler.plan()
    assert shape(plan) == [(1, 8, 4, True), (2, 0, 4, True)]
    finish_step(scheduler, plan)
    scheduler.add(Sequence(3, list(range(100, 130))))
    assert shape(scheduler.plan()) == [(1, 12, 1, True), (2, 4, 1, True), (3, 0, 6, False)]


def test_guesses_come_after_the_first_token_even_of_a_known_prompt() -> None:
    scheduler, _ = make(page_count=256, token_budget=64)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8] * 4
    for request_id in (1, 2):  # the second finds all of the prompt in known pages
        sequence = Sequence(request_id, [*prompt], PromptLookup())
        scheduler.add(sequence)
        first = scheduler.plan()
        assert first is not None
        assert first.rows[0].draft == ()
        finish_step(scheduler, first, token=1)
        second = scheduler.plan()
        assert second is not None
        assert second.rows[0].draft == (2, 3, 4)
        scheduler.remove(sequence)
    assert scheduler.counts.prefix_hit_tokens == len(prompt) - 1
    assert scheduler.counts.prefix_queried_tokens == 2 * len(prompt)


def test_no_chunk_of_a_prompt_carries_guesses() -> None:
    for budget in (1, 3, 5):  # chunks of one token, first, between and last
        scheduler, _ = make(page_count=256, token_budget=budget)
        sequence = Sequence(1, [1, 2, 3, 4, 5, 6, 7] * 3, PromptLookup())
        scheduler.add(sequence)
        while sequence.remaining > 0:
            plan = scheduler.plan()
            assert plan is not None
            assert plan.rows[0].draft == ()
            scheduler.commit(plan)


def test_what_a_grammar_forces_is_guessed_in_larger_steps_too(tokenizer: Tokenizer) -> None:
    text = "hello the world"
    grammars = GrammarCompiler(tokenizer)
    forced = grammars.matcher(Grammar.choice([text], field="c")).forced()
    assert tokenizer.decode(forced) == text
    scheduler, _ = make(page_count=256, page_size=64, token_budget=64, max_running=64)
    for request_id in range(20):
        matcher = grammars.matcher(Grammar.choice([text], field="c"))
        scheduler.add(Sequence(request_id, [request_id, 2, 3], PromptLookup(), matcher))
    finish_step(scheduler, scheduler.plan())
    plan = scheduler.plan()
    assert plan is not None
    drafts = [row.draft for row in plan.rows]
    assert drafts[0] == forced[:MAX_DRAFT]
    assert sum(map(len, drafts)) == FORCED_STEP - 20


def with_one_that_generates_and_a_prompt_of(length: int, **limits: int) -> Scheduler:
    scheduler, _ = make(page_count=256, **limits)
    scheduler.add(Sequence(1, [1, 2, 3]))
    finish_step(scheduler, scheduler.plan())
    scheduler.add(Sequence(2, list(range(length))))
    return scheduler


def test_without_patience_a_prompt_goes_in_small_chunks_beside_those_that_generate() -> None:
    scheduler = with_one_that_generates_and_a_prompt_of(300, token_budget=200)
    assert shape(scheduler.plan(patience=0)) == [(1, 3, 1, True), (2, 0, 16, False)]


def test_a_chunk_beside_those_that_generate_is_as_large_as_their_patience() -> None:
    scheduler = with_one_that_generates_and_a_prompt_of(300, token_budget=200)
    assert shape(scheduler.plan(patience=70)) == [(1, 3, 1, True), (2, 0, 70, False)]


def test_while_patience_outlasts_the_budget_prompts_go_alone() -> None:
    scheduler = with_one_that_generates_and_a_prompt_of(300, token_budget=100)
    plan = scheduler.plan(patience=250)
    assert plan is not None
    assert plan.pauses
    assert shape(plan) == [(2, 0, 100, False)]
    scheduler.commit(plan)
    plan = scheduler.plan(patience=100)
    assert plan is not None
    assert not plan.pauses
    assert shape(plan) == [(1, 3, 1, True), (2, 100, 99, False)]


def test_nobody_pauses_for_prompts_that_leave_room_in_the_step() -> None:
    scheduler = with_one_that_generates_and_a_prompt_of(99, token_budget=100)
    plan = scheduler.plan(patience=1000)
    assert plan is not None
    assert not plan.pauses
    assert shape(plan) == [(1, 3, 1, True), (2, 0, 99, True)]


def test_nobody_pauses_for_prompts_that_may_not_run_yet() -> None:
    scheduler = with_one_that_generates_and_a_prompt_of(300, token_budget=100, max_running=1)
    assert shape(scheduler.plan(patience=1000)) == [(1, 3, 1, True)]
    crowded, _ = make(page_count=8, token_budget=8)
    crowded.add(Sequence(1, list(range(7))))
    finish_step(crowded, crowded.plan())
    crowded.add(Sequence(2, list(range(28))))  # 7 pages, of 6 that are free
    assert shape(crowded.plan(patience=1000)) == [(1, 7, 1, True)]


def test_no_more_run_than_allowed() -> None:
    scheduler, _ = make(max_running=2)
    for identifier in range(4):
        scheduler.add(Sequence(identifier, [identifier]))
    assert len(shape(scheduler.plan())) == 2
    assert (scheduler.running_count, scheduler.waiting_count) == (2, 2)


def test_the_arrays_of_a_step_describe_its_rows() -> None:
    scheduler, _ = make(token_budget=7)
    scheduler.add(Sequence(1, [10, 11, 12, 13, 14]))
    scheduler.add(Sequence(2, [20, 21, 22]))
    plan = scheduler.plan()
    assert plan is not None
    inputs = plan.inputs()
    assert inputs.token_ids.tolist() == [10, 11, 12, 13, 14, 20, 21]
    assert inputs.positions.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert inputs.row_starts.tolist() == [0, 5, 7]
    assert inputs.logit_rows.tolist() == [4]
    assert inputs.page_table.shape == (2, 2)
    used = inputs.page_table[0].tolist() + inputs.page_table[1, :1].tolist()
    assert len(set(used)) == 3
    assert {a.dtype for a in (inputs.token_ids, inputs.page_table)} == {np.dtype(np.int32)}


def test_a_known_prefix_is_not_computed_again() -> None:
    scheduler, pages = make(page_size=4, token_budget=32)
    first = Sequence(1, list(range(10)))
    scheduler.add(first)
    finish_step(scheduler, scheduler.plan())
    scheduler.remove(first)
    scheduler.add(Sequence(2, list(range(10))))
    assert shape(scheduler.plan()) == [(2, 8, 2, True)]
    assert scheduler.counts.prefix_hit_tokens == 8
    assert pages.used_count == 3


def test_the_last_token_is_computed_even_if_its_page_is_known() -> None:
    scheduler, _ = make(page_size=4, token_budget=32)
    first = Sequence(1, list(range(8)))
    scheduler.add(first)
    finish_step(scheduler, scheduler.plan())
    scheduler.add(Sequence(2, list(range(8))))
    plan = scheduler.plan()
    assert (2, 7, 1, True) in shape(plan)
    assert scheduler.counts.prefix_hit_tokens == 7


def test_out_of_pages_the_youngest_gives_way_and_is_computed_again_later() -> None:
    scheduler, _ = make(page_count=4, page_size=2, token_budget=16)
    old, young = Sequence(1, [1, 2, 3]), Sequence(2, [5, 6])
    scheduler.add(old)
    scheduler.add(young)
    finish_step(scheduler, scheduler.plan())
    assert (young.running, len(young.pages)) == (True, 1)
    finish_step(scheduler, scheduler.plan())  # old: 4 tokens in 2 pages; young: 3 in 2
    finish_step(scheduler, scheduler.plan())  # old needs a third page
    assert scheduler.counts.preemptions == 1
    assert (young.running, young.computed, young.pages) == (False, 0, [])
    assert young.tokens == [5, 6, 9, 9]
    scheduler.remove(old)
    plan = scheduler.plan()
    assert plan is not None
    assert plan.rows[0].sequence is young
    assert plan.rows[0].samples


def test_a_removed_sequence_frees_its_pages_at_once() -> None:
    scheduler, pages = make()
    running, waiting = Sequence(1, list(range(30))), Sequence(2, [1])
    scheduler.add(running)
    scheduler.plan()
    scheduler.add(waiting)
    assert pages.used_count > 0
    scheduler.remove(running)
    scheduler.remove(waiting)
    assert pages.used_count == 0
    assert scheduler.plan() is None


def test_those_with_the_same_prompt_wait_for_the_first_and_share_its_pages() -> None:
    scheduler, pages = make(page_size=4, token_budget=8)
    first = Sequence(0, list(range(14)))
    scheduler.add(first)
    for identifier in (1, 2, 3):
        scheduler.add(Sequence(identifier, list(range(14))), after=first)
    scheduler.add(Sequence(4, [50]))
    assert scheduler.waiting_count == 5
    plan = scheduler.plan()
    assert shape(plan) == [(0, 0, 8, False)]
    finish_step(scheduler, plan)
    plan = scheduler.plan()
    assert shape(plan) == [(0, 8, 6, True), (4, 0, 1, True)]
    finish_step(scheduler, plan)
    plan = scheduler.plan(patience=8)
    # They go before whoever came later, and compute what stands on the last page alone.
    assert shape(plan) == [
        (0, 14, 1, True),
        (4, 1, 1, True),
        *[(i, 12, 2, True) for i in (1, 2, 3)],
    ]
    assert pages.used_count == 3 + 4 + 1
    scheduler.check_integrity()


def test_where_the_first_goes_another_computes_the_prompt() -> None:
    scheduler, _ = make(page_size=4, token_budget=8)
    sequences = [Sequence(identifier, list(range(14))) for identifier in range(4)]
    scheduler.add(sequences[0])
    for sequence in sequences[1:]:
        scheduler.add(sequence, after=sequences[0])
    finish_step(scheduler, scheduler.plan())
    scheduler.remove(sequences[0])
    scheduler.remove(sequences[2])
    scheduler.check_integrity()
    assert shape(scheduler.plan()) == [(1, 8, 6, True)]


def test_where_the_first_ends_with_its_first_token_none_computes_the_prompt_again() -> None:
    scheduler, _ = make(page_size=4, token_budget=16)
    sequences = [Sequence(identifier, list(range(14))) for identifier in range(3)]
    scheduler.add(sequences[0])
    for sequence in sequences[1:]:
        scheduler.add(sequence, after=sequences[0])
    finish_step(scheduler, scheduler.plan())
    scheduler.remove(sequences[0])
    assert shape(scheduler.plan()) == [(1, 12, 2, True), (2, 12, 2, True)]


@hypothesis_settings(max_examples=150)
@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=16), min_size=1, max_size=8),
    answers=st.integers(1, 8),
    page_count=st.integers(12, 24),
    page_size=st.sampled_from([1, 2, 4]),
    token_budget=st.integers(1, 24),
    max_running=st.integers(1, 8),
    patience=st.integers(0, 40),
    choices=st.integers(1, 3),
    arrivals=st.randoms(use_true_random=False),
)
def test_every_request_is_served_whole_and_in_order_whatever_the_load(
    prompts, answers, page_count, page_size, token_budget, max_running, patience, choices, arrivals
) -> None:
    """A simulated model writes what it was given into simulated pages and checks what it reads."""
    page_count = max(page_count, -(-(16 + 8) // page_size))
    scheduler, _ = make(page_count, page_size, token_budget, max_running)
    pool: dict[tuple[int, int], tuple[int, ...]] = {}
    waiting = [[Sequence(i, list(p)) for _ in range(choices)] for i, p in enumerate(prompts)]
    done: list[Sequence] = []
    left = patience
    for _ in range(5000):
        while waiting and arrivals.random() < 0.5:
            leader, *followers = waiting.pop(0)
            scheduler.add(leader)
            for follower in followers:
                scheduler.add(follower, after=leader)
        plan = scheduler.plan(left)
        if plan is None:
            if not waiting:
                break
            continue
        assert 0 < plan.token_count <= token_budget
        left = left - plan.token_count if plan.pauses else patience
        inputs = plan.inputs()
        for index, row in enumerate(plan.rows):
            table = inputs.page_table[index]
            for position in range(row.start, row.start + row.count):
                prefix = tuple(row.sequence.tokens[: position + 1])
                pool[table[position // page_size], position % page_size] = prefix
            for position in range(row.start + row.count):
                # What attention reads is this sequence's own past, shared pages included.
                stored = pool[table[position // page_size], position % page_size]
                assert stored == tuple(row.sequence.tokens[: position + 1])
        scheduler.commit(plan)
        for sequence in (row.sequence for row in plan.sampled):
            sequence.tokens.append(1)
            if len(sequence.tokens) == len(prompts[sequence.request_id]) + answers:
                scheduler.remove(sequence)
                done.append(sequence)
        scheduler.check_integrity()
    assert len(done) == choices * len(prompts)


def test_a_waiting_sequence_that_does_not_fit_yet_stays_first_in_line() -> None:
    scheduler, _ = make(page_count=4, page_size=4, token_budget=64)
    scheduler.add(Sequence(1, list(range(10))))
    scheduler.plan()
    scheduler.add(Sequence(2, list(range(50, 60))))
    scheduler.add(Sequence(3, [1]))
    assert scheduler.plan() is not None
    assert scheduler.waiting_count == 2


def test_a_scheduler_without_work_plans_nothing() -> None:
    scheduler, _ = make()
    assert scheduler.plan() is None
