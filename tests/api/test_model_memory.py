"""Which models stay in memory, for every order of requests."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from api.model_memory import ModelMemory

NAMES = "abcdef"
names = st.sampled_from(NAMES)
sizes = st.fixed_dictionaries({name: st.integers(1, 12) for name in NAMES})


class Requests(RuleBasedStateMachine):
    """Requests begin and end on models; each is loaded as soon as there is room for it."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = ModelMemory(10)
        self.sizes: dict[str, int] = {}
        self.recent: list[str] = []
        """Loaded models in the order of their last use, as this test counts them."""
        self.running: list[str] = []

    @precondition(lambda self: not self.sizes)
    @rule(sizes=sizes)
    def publish(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes

    @precondition(lambda self: self.sizes)
    @rule(name=names)
    def begin(self, name: str) -> None:
        if name not in self.memory.loaded:
            gone = self.memory.victims(self.sizes[name])
            if gone is None:
                self.expect_no_room(name)
                return
            self.expect_least_recent(name, gone)
            for each in gone:
                self.memory.remove(each)
                self.recent.remove(each)
            self.memory.add(name, self.sizes[name])
        self.memory.begin(name)
        self.running.append(name)
        self.used(name)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.running))
        self.memory.end(name)
        self.running.remove(name)
        self.used(name)

    @precondition(lambda self: bool(self.idle()))
    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        self.memory.remove(name)
        self.recent.remove(name)

    def used(self, name: str) -> None:
        self.recent = [each for each in self.recent if each != name] + [name]

    def idle(self) -> list[str]:
        return [each for each in self.recent if each not in self.running]

    def expect_no_room(self, name: str) -> None:
        """Even without every idle model there is too little."""
        held = sum(self.sizes[each] for each in set(self.running))
        assert held > 0
        assert held + self.sizes[name] > self.memory.budget

    def expect_least_recent(self, name: str, gone: tuple[str, ...]) -> None:
        """Those that go are the first of the idle ones, and each was needed."""
        assert list(gone) == self.idle()[: len(gone)]
        if gone:
            kept = sum(self.sizes[each] for each in self.recent if each not in gone[:-1])
            assert kept + self.sizes[name] > self.memory.budget

    @invariant()
    def no_model_in_use_is_gone(self) -> None:
        assert set(self.running) <= set(self.memory.loaded)
        assert list(self.memory.loaded) == self.recent

    @invariant()
    def the_budget_is_kept_but_by_one_that_is_larger(self) -> None:
        assert self.memory.used_bytes <= self.memory.budget or len(self.memory.loaded) == 1


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_model_in_use_cannot_be_removed() -> None:
    memory = ModelMemory()
    memory.add("a", 1)
    memory.begin("a")
    with pytest.raises(AssertionError):
        memory.remove("a")
    memory.end("a")
    memory.remove("a")
    assert memory.loaded == ()
