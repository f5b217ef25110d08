"""What the messages say can be found is what the page manager finds, whatever happens."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from api.kv_events.log import EventLog
from runtime.page_changes import FoundPage, PageChanges
from runtime.pages import ROOT_HASH, PageManager, chain_hash
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence
from tests.api.kv_subscriber import Mirror

PAGE_SIZE = 2


def page(number: int, parent: bytes | None = None) -> tuple[bytes, FoundPage]:
    """A page of its own and its hash."""
    tokens = (number, number)
    return chain_hash(parent or ROOT_HASH, tokens), FoundPage.of(parent, tokens)


def tags(payload: bytes) -> list[str]:
    return [event[0] for event in msgspec.msgpack.decode(payload)[1]]


class CacheMachine(RuleBasedStateMachine):
    """Requests come, are computed, fail and go while a slow thread publishes."""

    @initialize(page_count=st.integers(2, 8), least_bytes=st.sampled_from([200, 10**6]))
    def create(self, page_count: int, least_bytes: int) -> None:
        self.rings = 0
        self.changes = PageChanges(self.ring)
        self.pages = PageManager(page_count, PAGE_SIZE, [self.changes.forgotten])
        self.scheduler = Scheduler(self.pages, token_budget=4, max_running=3, changes=self.changes)
        self.live: list[Sequence] = []
        self.log = EventLog("server", PAGE_SIZE, least_bytes=least_bytes)
        self.mirror = Mirror()
        self.heard(self.log.begin("model"))

    def ring(self) -> None:
        self.rings += 1

    def heard(self, messages: object) -> None:
        for message in messages:  # type: ignore[attr-defined]
            self.mirror.take(message.payload)

    @rule(
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=4),
        salt=st.sampled_from([b"", b"a", b"b"]),
    )
    def request(self, tokens: list[int], salt: bytes) -> None:
        sequence = Sequence(len(self.live), tokens, salt=salt)
        self.live.append(sequence)
        self.scheduler.add(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        plan = self.scheduler.plan(patience=8)
        assert plan is not None
        wrong = data.draw(st.sets(st.sampled_from([row.sequence for row in plan.rows]), max_size=1))
        self.scheduler.commit(plan, wrong)
        for row in plan.rows:
            full = len(row.sequence.tokens) >= 2 * PAGE_SIZE
            if row.sequence in wrong or (row.samples and full):
                self.end(row.sequence)
            elif row.samples:
                row.sequence.tokens.append(data.draw(st.integers(0, 1)))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.live)))

    def end(self, sequence: Sequence) -> None:
        self.live.remove(sequence)
        self.scheduler.remove(sequence)

    @rule()
    def hand_over(self) -> None:
        self.changes.hand_over()

    @rule()
    def publish(self) -> None:
        if taken := self.changes.take():
            assert len(taken) <= 2 * self.pages.page_count
            self.heard(self.log.change("model", taken))

    @rule()
    def agree(self) -> None:
        """Once all is published, both know the same pages, and their tokens give their hashes."""
        self.publish()
        self.hand_over()
        self.publish()
        assert self.mirror.pages.keys() == self.pages._page_of_hash.keys()
        for page_hash, found in self.mirror.pages.items():
            root = bytes.fromhex("".join(found.extra))
            assert chain_hash(found.parent or root, found.tokens) == page_hash

    @rule()
    def join_late(self) -> None:
        """A subscriber that comes now learns from a replay what the others know."""
        late = Mirror()
        messages = self.log.since(0)
        assert [message.number for message in messages] == list(range(len(messages)))
        for message in messages:
            late.take(message.payload)
        assert late.pages == self.mirror.pages


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=100, stateful_step_count=40)


def test_the_log_begins_again_when_it_is_long_and_stays_short() -> None:
    log, mirror = EventLog("server", PAGE_SIZE, least_bytes=1000), Mirror()
    log.begin("model")
    kept = dict([page(0)])
    log.change("model", kept)
    for number in range(1, 200):
        page_hash, found = page(number)
        log.change("model", {page_hash: found})
        log.change("model", {page_hash: None})
        assert sum(len(message.payload) for message in log.since(0)) <= 1000
    assert log.beginnings > 1
    for message in log.since(0):
        mirror.take(message.payload)
    assert mirror.pages.keys() == kept.keys()


def test_every_model_is_cleared_before_any_page_is_stored_again() -> None:
    """llm-d's router takes a model's clearing as that of the whole server."""
    log = EventLog("server", PAGE_SIZE, least_bytes=1)
    assert [tags(each.payload) for each in log.begin("a")] == [["AllBlocksCleared"]]
    assert log.begin("b") == []
    again = log.change("b", dict([page(1)]))
    assert [(each.topic, each.number, tags(each.payload)) for each in again] == [
        (b"kv@server@a", 0, ["AllBlocksCleared"]),
        (b"kv@server@b", 1, ["AllBlocksCleared"]),
        (b"kv@server@b", 2, ["BlockStored"]),
    ]


def test_pages_that_follow_each_other_are_one_event() -> None:
    first, second, other = page(1), page(2, page(1)[0]), page(3)
    log = EventLog("server", PAGE_SIZE)
    log.begin("model")
    (message,) = log.change("model", dict([first, second, other]))
    _, events, rank = msgspec.msgpack.decode(message.payload)
    stored = [
        ["BlockStored", [first[0], second[0]], None, [1, 1, 2, 2]],
        ["BlockStored", [other[0]], None, [3, 3]],
    ]
    assert [event[:4] for event in events] == stored
    assert rank == 0


@pytest.mark.parametrize("ends", [EventLog.end, EventLog.begin])
def test_the_pages_of_a_model_that_goes_are_removed(ends) -> None:
    log = EventLog("server", PAGE_SIZE)
    log.begin("model")
    log.change("model", dict([page(1), page(2)]))
    (message,) = ends(log, "model")
    (event,) = msgspec.msgpack.decode(message.payload)[1]
    assert event == ["BlockRemoved", [page(1)[0], page(2)[0]], "GPU"]
    assert ends(log, "model") == []
