"""Where one router or one event stream gives out: arithmetic on measured costs and rates."""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from pipelines.simulation.figures import Figures
from pipelines.simulation.measured import RoutingCost
from runtime.pages import HASH_BYTES

TOPIC = b"kv@replica-0001@model"
NUMBER_BYTES = 8
FIRST_TOKEN = 10_000
"""Most tokens of a text take three bytes."""
SECONDS = 1.8e9


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One router over a fleet."""

    replicas: int
    requests_per_second: float
    pages_per_second: float
    event_bytes_per_second: float
    index_bytes: float
    choose_us: float
    choosing_cores: float
    event_cores: float

    @property
    def cores(self) -> float:
        """Processors that one router needs."""
        return self.choosing_cores + self.event_cores


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica of a fleet asks of its router."""

    requests_per_second: float
    prompt_pages: float
    """Pages of a prompt, mean."""
    stored_per_second: float
    """Pages that become findable; once the cache is full, as many are removed."""
    batches_per_second: float
    page_size: int
    page_count: int

    @classmethod
    def of(
        cls, figures: Figures, requests_per_second: float, page_size: int, page_count: int
    ) -> "Replica":
        """Return one with this many requests a second, which are as those of a simulation."""
        each = requests_per_second / figures.requests
        return cls(
            requests_per_second=requests_per_second,
            prompt_pages=figures.prompt_tokens / figures.requests / page_size,
            stored_per_second=each * figures.stored_pages,
            batches_per_second=each * figures.event_batches,
            page_size=page_size,
            page_count=page_count,
        )

    def times(self, factor: float) -> "Replica":
        """Return a replica with so many times the requests and the cache."""
        return msgspec.structs.replace(
            self,
            requests_per_second=factor * self.requests_per_second,
            stored_per_second=factor * self.stored_per_second,
            batches_per_second=factor * self.batches_per_second,
            page_count=round(factor * self.page_count),
        )


def most_replicas(each: Replica, cost: RoutingCost) -> int:
    """Return for how many replicas one processor is enough for choosing and events together."""
    most = 1
    while limit(2 * most, each, cost).cores <= 1:
        most *= 2
    return bisect_right(range(2 * most), 1.0, lo=1, key=lambda n: limit(n, each, cost).cores) - 1


def limit(replicas: int, each: Replica, cost: RoutingCost) -> Limit:
    """Return what one router over this many replicas needs."""
    requests = each.requests_per_second * replicas
    pages = each.stored_per_second * replicas
    per_batch = event_bytes(0, each.page_size)
    per_page = event_bytes(1, each.page_size) - per_batch
    choose = _between(cost.choose_us, replicas) + cost.hash_us_per_page * each.prompt_pages
    return Limit(
        replicas=replicas,
        requests_per_second=requests,
        pages_per_second=pages,
        event_bytes_per_second=per_page * pages
        + per_batch * each.batches_per_second * replicas
        + (HASH_BYTES + 2) * pages,
        index_bytes=cost.index_bytes_per_page * each.page_count * replicas,
        choose_us=choose,
        choosing_cores=requests * choose / 1e6,
        event_cores=pages * cost.event_us_per_page / 1e6,
    )


def event_bytes(pages: int, page_size: int) -> int:
    """Return the size of a message of this many stored pages: topic, number and msgpack."""
    return len(TOPIC) + NUMBER_BYTES + len(event_message(pages, page_size))


def event_message(pages: int, page_size: int) -> bytes:
    """Return the payload of a message, in the form of `api/kv_events/messages.py`."""
    hashes = [page.to_bytes(HASH_BYTES) for page in range(pages)]
    tokens = [FIRST_TOKEN + token for token in range(pages * page_size)]
    stored = ["BlockStored", hashes, bytes(HASH_BYTES), tokens, page_size, None, "GPU", None, None]
    return msgspec.msgpack.encode([SECONDS, [stored], 0])


def _between(points: Sequence[tuple[int, float]], count: int) -> float:
    """Return the value at a count, straight between measured points and beyond them."""
    place = next((i for i, (x, _) in enumerate(points) if x >= count), len(points) - 1)
    (x0, y0), (x1, y1) = points[max(place, 1) - 1], points[max(place, 1)]
    return y0 + (y1 - y0) * (count - x0) / (x1 - x0)
