"""The simulation of a fleet: its chats, its routers, and what holds whatever the router."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.kv_events.messages import Batch, stored
from pipelines.simulation.chats import Chat, Trace, Turn, read_trace, trace_lines
from pipelines.simulation.figures import Figures, figures, percentile
from pipelines.simulation.fleet import Fleet, Outcome
from pipelines.simulation.limits import Replica, event_message, limit, most_replicas
from pipelines.simulation.measured import RoutingCost
from pipelines.simulation.routers import (
    CHAT_HASHING,
    LEAST_QUEUE,
    PREFIX_AWARE,
    PROMPT_HASHING,
    ROUND_ROBIN,
    ROUTERS,
    router,
)
from pipelines.simulation.step_times import Line, StepTimes
from pipelines.simulation.traffic import Traffic, draw
from runtime.errors import InvalidTrace
from runtime.page_changes import FoundPage
from runtime.settings import Settings

TIMES = StepTimes(
    tokens=Line((1, 256), (4.0, 160.0)),
    logits=Line((1, 64), (0.0, 10.0)),
    ns_per_pair=100.0,
    ns_per_position=50.0,
    engine_ms=0.1,
    engine_ms_per_row=0.01,
)
SMALL = Settings(cache_tokens=1024, token_budget=64, max_batch_size=4)
NS_PER_MS = 1_000_000

turns = st.builds(
    Turn, question=st.integers(1, 60), answer=st.integers(1, 20), think_ms=st.integers(0, 300)
)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    lengths = draw(st.lists(st.integers(0, 200), min_size=1, max_size=4))
    return tuple(
        Chat(
            start_ms=draw(st.integers(0, 2000)),
            system=str(system),
            system_tokens=lengths[system],
            turns=tuple(draw(st.lists(turns, min_size=1, max_size=4))),
        )
        for system in draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=20))
    )


def play(
    chats: Trace,
    name: str,
    replicas: int = 2,
    settings: Settings = SMALL,
    *,
    event_delay_ms: int = 20,
    checked: bool = False,
) -> Outcome:
    through = router(name, replicas, settings.page_size)
    fleet = Fleet(
        replicas, through, settings, TIMES, event_delay_ms=event_delay_ms, checked=checked
    )
    return fleet.play(chats)


@given(traces(), st.sampled_from(ROUTERS), st.integers(1, 5))
@hypothesis_settings(max_examples=60, deadline=None)
def test_every_question_is_answered_once_and_the_scheduler_stays_sound(
    chats: Trace, name: str, replicas: int
) -> None:
    outcome = play(chats, name, replicas, checked=True)
    asked = sorted((question.chat, question.turn) for question in outcome.questions)
    assert asked == [(n, turn) for n, chat in enumerate(chats) for turn in range(len(chat.turns))]
    for question in outcome.questions:
        sequence = question.sequence
        assert sequence.tokens[sequence.prompt_length :] == [*question.answer]
        assert question.asked_ns < question.first_ns <= question.ended_ns <= outcome.ended_ns
        assert 0 <= question.hit_tokens < question.prompt_tokens
        assert 0 <= question.replica < replicas


@given(traces(), st.sampled_from(ROUTERS))
@hypothesis_settings(max_examples=20, deadline=None)
def test_a_question_comes_after_its_time_to_think(chats: Trace, name: str) -> None:
    ended: dict[tuple[int, int], int] = {}
    for question in sorted(play(chats, name).questions, key=lambda each: each.asked_ns):
        turn = chats[question.chat].turns[question.turn]
        start = chats[question.chat].start_ms * NS_PER_MS
        before = ended.get((question.chat, question.turn - 1))
        thought = start if before is None else before + turn.think_ms * NS_PER_MS
        assert question.asked_ns == thought
        ended[question.chat, question.turn] = question.ended_ns


@given(traces(), st.sampled_from(ROUTERS))
@hypothesis_settings(max_examples=20, deadline=None)
def test_the_same_trace_has_the_same_outcome(chats: Trace, name: str) -> None:
    first, second = (figures(play(chats, name)) for _ in range(2))
    assert first == second


def one_after_the_other(systems: list[int], gap_ms: int = 2000) -> Trace:
    """Chats of one turn, each of which begins when the one before is long over."""
    return tuple(
        Chat(number * gap_ms, str(system), 100 + 16 * system, (Turn(20, 4),))
        for number, system in enumerate(systems)
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(2, 4))
@hypothesis_settings(max_examples=40, deadline=None)
def test_with_a_prompt_for_each_replica_prefix_aware_finds_no_less_than_round_robin(
    systems: list[int], replicas: int
) -> None:
    chats = one_after_the_other([system % replicas for system in systems])
    found = {
        name: sum(question.hit_tokens for question in play(chats, name, replicas).questions)
        for name in (ROUND_ROBIN, PREFIX_AWARE)
    }
    assert found[PREFIX_AWARE] >= found[ROUND_ROBIN]


def test_prefix_aware_computes_each_prompt_once_where_nothing_else_goes_on() -> None:
    outcome = play(one_after_the_other([0, 1, 0, 0, 1, 1]), PREFIX_AWARE)
    hits = [question.hit_tokens for question in outcome.questions]
    assert hits == [0, 0, 96, 96, 112, 112]  # full pages of 16 tokens


def test_a_page_is_known_only_after_the_delay() -> None:
    chats = one_after_the_other([0, 1, 0, 1, 0, 1, 0, 1], gap_ms=2000)
    replicas = [[q.replica for q in play(chats, PREFIX_AWARE, 3, event_delay_ms=delay).questions]
                for delay in (20, 20_000)]  # fmt: skip
    assert replicas == [[0, 1, 0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2, 0, 1]]


@pytest.mark.parametrize("name", [CHAT_HASHING, PROMPT_HASHING])
def test_hashing_keeps_a_chat_or_a_system_prompt_on_one_replica(name: str) -> None:
    chats = draw(Traffic(chats=10, systems=12), 4)
    replica_of: dict[str | int, set[int]] = {}
    for question in play(chats, name, 4, Settings()).questions:
        key = question.chat if name == CHAT_HASHING else question.system
        replica_of.setdefault(key, set()).add(question.replica)
    assert {len(replicas) for replicas in replica_of.values()} == {1}
    assert len(set.union(*replica_of.values())) > 1


def test_a_further_replica_takes_few_system_prompts_from_the_others() -> None:
    chats = one_after_the_other(list(range(40)), gap_ms=1)
    places = [
        {q.system: q.replica for q in play(chats, PROMPT_HASHING, replicas).questions}
        for replicas in (4, 5)
    ]
    moved = {name for name in places[0] if places[0][name] != places[1][name]}
    assert {places[1][name] for name in moved} == {4}
    assert len(moved) < 20


def test_least_queue_leaves_out_the_replica_that_is_busy() -> None:
    long = Chat(0, "a", 0, (Turn(400, 100),))
    short = tuple(Chat(100 + 100 * n, "a", 0, (Turn(5, 1),)) for n in range(3))
    outcome = play((long, *short), LEAST_QUEUE)
    assert [question.replica for question in outcome.questions] == [1, 1, 1, 0]


def test_a_step_takes_longer_with_more_tokens_rows_and_context() -> None:
    chats = one_after_the_other([0])

    def wait_ms(chat: Chat) -> float:
        return figures(play((chat,), ROUND_ROBIN, 1)).first_token_p50_ms

    assert wait_ms(chats[0]) < wait_ms(msgspec.structs.replace(chats[0], system_tokens=500))


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    chats = draw(Traffic(chats=20), 1)
    path = tmp_path / "trace.jsonl"
    path.write_bytes(trace_lines(chats))
    assert read_trace(path) == chats


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("", "has no chats"),
        ("{}", "line 1 of .* is no chat"),
        ('{"start_ms":0,"system":"a","system_tokens":1,"turns":[]}', "length >= 1"),
        (
            '{"start_ms":0,"system":"a","system_tokens":1,"turns":[{"question":1,"answer":1}]}\n'
            '{"start_ms":0,"system":"a","system_tokens":2,"turns":[{"question":1,"answer":1}]}',
            "line 2 of .* gives system prompt 'a' 2 tokens, and an earlier line 1",
        ),
    ],
)
def test_a_line_that_is_no_chat_is_named(tmp_path: Path, lines: str, says: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(lines)
    with pytest.raises(InvalidTrace, match=says):
        read_trace(path)


def test_a_chat_that_no_replica_can_hold_is_refused() -> None:
    with pytest.raises(InvalidTrace, match="chat 2 has 2004 tokens"):
        play((Chat(0, "a", 0, (Turn(1, 1),)), Chat(0, "b", 2000, (Turn(2, 2),))), ROUND_ROBIN)


def test_popular_system_prompts_have_the_shares_of_zipf() -> None:
    chats = draw(Traffic(chats=4000, systems=4, zipf=1.0), 1)
    shares = [sum(chat.system == str(n) for chat in chats) / len(chats) for n in range(4)]
    expected = [1 / rank / (1 + 1 / 2 + 1 / 3 + 1 / 4) for rank in (1, 2, 3, 4)]
    assert shares == pytest.approx(expected, abs=0.03)


def test_drawn_chats_have_the_means_and_limits_that_were_asked_for() -> None:
    traffic = Traffic(chats=3000, most_tokens=100_000)
    chats = draw(traffic, 1)
    drawn = [turn for chat in chats for turn in chat.turns]
    assert len(drawn) / len(chats) == pytest.approx(traffic.turns, rel=0.1)
    assert sum(t.question for t in drawn) / len(drawn) == pytest.approx(40, rel=0.1)
    assert sum(t.answer for t in drawn) / len(drawn) == pytest.approx(80, rel=0.1)
    assert chats[-1].start_ms / 1000 == pytest.approx(3000 / traffic.chats_per_second, rel=0.1)
    assert all(chat.tokens <= 1500 for chat in draw(Traffic(most_tokens=1500), 1))


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile(range(1, 11), percent) for percent in (0, 50, 95, 100)] == [1, 5, 10, 10]
    assert percentile([7], 95) == 7


def test_hits_are_counted_as_the_scheduler_counts_them() -> None:
    outcome = play(one_after_the_other([0, 0]), ROUND_ROBIN, 1)
    found: Figures = figures(outcome)
    assert found.hit_rate == 96 / 240
    assert found.requests == 2
    assert found.preemptions == 0


def test_a_message_of_stored_pages_is_as_long_as_a_servers() -> None:
    hashes = [page.to_bytes(16) for page in range(3)]
    pages = [
        (page_hash, FoundPage.of(parent, range(10_000, 10_016)))
        for page_hash, parent in zip(hashes, (bytes(16), *hashes[:2]), strict=True)
    ]
    payload = msgspec.msgpack.encode(Batch(1.8e9, tuple(stored(pages, 16))))
    assert len(event_message(3, 16)) == len(payload)


def test_one_processor_is_enough_up_to_the_largest_fleet_that_is_named() -> None:
    cost = RoutingCost(
        processor="",
        hash_us_per_page=1.0,
        choose_us=((2, 6.0), (64, 13.0), (512, 70.0)),
        event_us_per_page=2.0,
        index_bytes_per_page=140.0,
    )
    each = Replica(
        requests_per_second=2.0,
        prompt_pages=60.0,
        stored_per_second=20.0,
        batches_per_second=4.0,
        page_size=16,
        page_count=1024,
    )
    for replica in (each, each.times(50)):
        most = most_replicas(replica, cost)
        assert limit(most, replica, cost).cores <= 1 < limit(most + 1, replica, cost).cores
    assert limit(64, each, cost).choose_us == 13 + 60
    assert limit(64, each, cost).event_cores == pytest.approx(64 * 20 * 2e-6)
