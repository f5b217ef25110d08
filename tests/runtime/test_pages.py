import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.pages import ROOT_HASH, PageManager, chain_hash


def test_allocation_takes_all_or_nothing() -> None:
    pages = PageManager(page_count=4, page_size=16)
    assert len(pages.allocate(3) or []) == 3
    assert pages.allocate(2) is None
    assert pages.free_count == 1


def test_a_known_prefix_is_shared_and_counted() -> None:
    pages = PageManager(page_count=4, page_size=2)
    page_hash = chain_hash(ROOT_HASH, [1, 2])
    held = pages.allocate(1)
    assert held is not None
    pages.publish(held[0], page_hash)
    assert pages.match_prefix([page_hash, chain_hash(page_hash, [3, 4])]) == held
    pages.release(held)
    assert pages.used_count == 1
    pages.release(held)
    assert pages.used_count == 0


def test_a_released_prefix_is_found_again_until_its_page_is_needed() -> None:
    pages = PageManager(page_count=2, page_size=2)
    page_hash = chain_hash(ROOT_HASH, [1, 2])
    held = pages.allocate(1) or []
    pages.publish(held[0], page_hash)
    pages.release(held)
    again = pages.match_prefix([page_hash])
    assert again == held
    pages.release(again)
    assert pages.allocate(2) is not None
    assert pages.match_prefix([page_hash]) == []


def test_the_end_of_a_prefix_is_evicted_before_its_beginning() -> None:
    pages = PageManager(page_count=2, page_size=1)
    first = chain_hash(ROOT_HASH, [1])
    second = chain_hash(first, [2])
    held = pages.allocate(2) or []
    for page, page_hash in zip(held, (first, second), strict=True):
        pages.publish(page, page_hash)
    pages.release(held)
    pages.allocate(1)
    assert len(pages.match_prefix([first, second])) == 1


def test_the_same_tokens_after_another_prefix_are_another_page() -> None:
    assert chain_hash(chain_hash(ROOT_HASH, [1]), [5]) != chain_hash(
        chain_hash(ROOT_HASH, [2]), [5]
    )


def test_releasing_too_often_is_a_bug_that_shows() -> None:
    pages = PageManager(page_count=1, page_size=1)
    held = pages.allocate(1) or []
    pages.release(held)
    with pytest.raises(AssertionError, match="more often"):
        pages.release(held)


class PageManagerMachine(RuleBasedStateMachine):
    """Any order of what sequences do leaves counts, lists and hashes in agreement."""

    @initialize(page_count=st.integers(1, 8))
    def create(self, page_count: int) -> None:
        self.pages = PageManager(page_count, page_size=1)
        self.held: list[tuple[list[int], list[int]]] = []

    @rule(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=6))
    def start(self, tokens: list[int]) -> None:
        hashes, parent = [], ROOT_HASH
        for token in tokens:
            parent = chain_hash(parent, [token])
            hashes.append(parent)
        known = self.pages.match_prefix(hashes)
        fresh = self.pages.allocate(len(tokens) - len(known))
        if fresh is None:
            self.pages.release(known)
            return
        for page, page_hash in zip(known + fresh, hashes, strict=True):
            self.pages.publish(page, page_hash)
        self.held.append((tokens, known + fresh))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.held) - 1))
        self.pages.release(self.held.pop(index)[1])

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "pages"):
            self.pages.check_integrity(pages for _, pages in self.held)

    @invariant()
    def a_shared_page_holds_the_same_tokens(self) -> None:
        content: dict[int, tuple[int, ...]] = {}
        for tokens, pages in getattr(self, "held", []):
            for index, page in enumerate(pages):
                prefix = tuple(tokens[: index + 1])
                assert content.setdefault(page, prefix) == prefix


TestPageManagerMachine = PageManagerMachine.TestCase
TestPageManagerMachine.settings = settings(max_examples=60, stateful_step_count=30)
