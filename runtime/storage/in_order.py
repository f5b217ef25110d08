"""Several transfers at once, whose results come in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 4
"""Transfers; each has a chunk in memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of each item in order, while the next ones are worked on in threads.

    No more than AT_ONCE are begun before the oldest is taken. Raises what the work raises.
    """
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(AT_ONCE, "transfer") as pool:
        try:
            for item in items:
                if len(running) == AT_ONCE:
                    yield running.popleft().result()
                running.append(pool.submit(work, item))
            while running:
                yield running.popleft().result()
        finally:
            for each in running:
                each.cancel()
