"""Times the simulation's prefix-aware router: choosing, and taking in events."""

import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import msgspec

from pipelines.benchmark.results import Machine
from pipelines.simulation.limits import event_message
from pipelines.simulation.measured import RoutingCost
from pipelines.simulation.prefix_index import PrefixIndex
from pipelines.simulation.replica import Question
from pipelines.simulation.routers import PrefixAware
from runtime.page_changes import FoundPage
from runtime.pages import HASH_BYTES, ROOT_HASH, chain_hash
from runtime.sequence import Sequence

FLEETS = (2, 8, 64, 512, 4096)
SYSTEM_PAGES, CHAT_PAGES = 44, 16
"""Pages of a prompt: of its system prompt, which one replica in eight holds, and of one chat."""
SHARING = 8
ROUNDS = 200
INDEX_PAGES = 50_000
EVENT_PAGES = 16
NS_PER_US = 1e3
PAGE = FoundPage.of(None, ())


def measure_routing(page_size: int) -> RoutingCost:
    """Measure in this process, on one processor, in some seconds."""
    tokens = list(range(page_size))
    return RoutingCost(
        processor=Machine.here().processor,
        hash_us_per_page=round(_us(lambda: chain_hash(ROOT_HASH, tokens)), 3),
        choose_us=tuple(
            (replicas, round(_choose_us(replicas, page_size), 2)) for replicas in FLEETS
        ),
        event_us_per_page=round(_event_us(page_size), 3),
        index_bytes_per_page=round(_index_bytes()),
    )


def _choose_us(replicas: int, page_size: int) -> float:
    """Return the microseconds to choose for a chat whose pages are known."""
    router = PrefixAware(page_size)
    pages = SYSTEM_PAGES + CHAT_PAGES
    sequence = Sequence(1, list(range(pages * page_size)))
    sequence.hash_pages(pages, page_size)
    for replica in range(0, replicas, SHARING):
        known = sequence.hashes[: SYSTEM_PAGES if replica else pages]
        router.learn(replica, dict.fromkeys(known, PAGE))
    question = Question(0, 0, "", sequence, (1,), 0)
    loads = [replica % 5 for replica in range(replicas)]
    return _us(lambda: router.choose(question, loads))


def _event_us(page_size: int) -> float:
    """Return the microseconds of one page of a message: decoded, hashed, taken in."""
    message = event_message(EVENT_PAGES, page_size)
    index = PrefixIndex()

    def take_in() -> None:
        _, ((_, hashes, parent, tokens, size, *_),), _ = msgspec.msgpack.decode(message)
        for place in range(len(hashes)):
            parent = chain_hash(parent, tokens[place * size : (place + 1) * size])
        index.update(1, dict.fromkeys(hashes, PAGE))

    return _us(take_in) / EVENT_PAGES


def _index_bytes() -> float:
    """Return the bytes of an index's entry for a page, its hash included."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        index = PrefixIndex()
        for page in range(INDEX_PAGES):
            index.update(63, {page.to_bytes(HASH_BYTES): PAGE})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(index)


def _us(work: Callable[[], object]) -> float:
    """Return the median of the microseconds that it takes."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - began) / NS_PER_US)
    return median(taken)
