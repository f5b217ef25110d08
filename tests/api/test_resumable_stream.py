"""The events of a request that its client leaves and comes back to, without a server."""

import itertools
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import StreamNotFound
from api.resumable_stream import ResumableStream
from api.stream_store import StreamStore
from tests.waiting import SECONDS, eventually

FOR_EVER = 3600.0
EVENT = b"data: %d\n\n"


class Source:
    """Gives chunks of events, each when it is asked for it; the test sees how it is used."""

    def __init__(self, *chunks: bytes) -> None:
        self.left = list(chunks)
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            yield self.left.pop(0)

    def close(self) -> None:
        self.closed.set()


class Silence(Source):
    """Has no event until the test lets it go, and then those that were given."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__(*chunks)
        self.let_go = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        while not self.let_go.wait(0.01):
            yield b""
        yield from super().__iter__()


class Both(Source):
    """Gives what one source has, and then what another has."""

    def __init__(self, *sources: Source) -> None:
        super().__init__()
        self._sources = sources

    def __iter__(self) -> Iterator[bytes]:
        return itertools.chain(*self._sources)


@pytest.fixture
def silence() -> Iterator[Silence]:
    made = Silence()
    yield made
    made.let_go.set()


def events(count: int) -> list[bytes]:
    return [EVENT % number for number in range(1, count + 1)]


def numbered(count: int) -> list[bytes]:
    """The same events as a stream gives them."""
    return [b"id: %d\n" % number + event for number, event in enumerate(events(count), start=1)]


def started(
    source: Source, seconds: float = FOR_EVER, window_bytes: int = 1 << 20
) -> ResumableStream:
    stream = ResumableStream(source, seconds=seconds, window_bytes=window_bytes)
    stream.start()
    return stream


def taken(stream: ResumableStream, reader: int, most: int = 1 << 30) -> list[bytes]:
    """The next events of a reader, to the end or as many as wanted."""
    found: list[bytes] = []
    while len(found) < most and (event := stream.take(reader, SECONDS)) is not None:
        found.append(event)
    return found


def number_of(event: bytes) -> int:
    return int(event.removeprefix(b"id: ").split(b"\n")[0])


@given(
    chunks=st.lists(st.integers(0, 3), max_size=12),
    cuts=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), max_size=8),
)
def test_however_a_stream_is_cut_its_parts_are_the_whole(
    chunks: list[int], cuts: list[tuple[int, int, bool]]
) -> None:
    made = iter(events(sum(chunks)))
    stream = started(Source(*(b"".join(next(made) for _ in range(count)) for count in chunks)))
    received: list[bytes] = []

    def last_id() -> int:
        return number_of(received[-1]) if received else 0

    for sent, lost, left in cuts:
        reader = stream.read(last_id())
        found = taken(stream, reader, sent)
        received += found[: max(0, len(found) - lost)]
        if left:  # otherwise the server has not noticed that the client is gone
            stream.leave(reader)
    reader = stream.read(last_id())
    received += taken(stream, reader)
    assert received == numbered(sum(chunks))
    stream.leave(reader)
    assert stream.forget()


def test_every_event_of_a_chunk_has_an_id_of_its_own() -> None:
    stream = started(Source(b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n"))
    assert taken(stream, stream.read(0)) == [
        b"id: 1\nevent: a\ndata: 1\n\n",
        b"id: 2\nevent: b\ndata: 2\n\n",
    ]


def test_a_reader_takes_the_place_of_another(silence: Silence) -> None:
    stream = started(silence)
    first = stream.read(0)
    assert stream.take(first, 0.001) == b""
    second = stream.read(0)
    assert stream.take(first, SECONDS) is None
    stream.leave(first)
    assert stream.take(second, 0.001) == b""


def test_an_event_that_was_never_sent_cannot_be_the_last() -> None:
    stream = started(Source(*events(2)))
    taken(stream, stream.read(0))
    with pytest.raises(StreamNotFound):
        stream.read(3)


def test_events_are_dropped_for_newer_ones_only_once_they_are_taken() -> None:
    three = 3 * len(numbered(1)[0])
    source = Source(*events(9))
    stream = started(source, window_bytes=three)
    eventually(lambda: len(source.left) <= 6)
    assert len(source.left) >= 5, "an event more than fits may wait, and no other"
    stream.leave(stream.read(0))
    assert taken(stream, stream.read(0)) == numbered(9)
    with pytest.raises(StreamNotFound, match="not kept"):
        stream.read(5)
    assert taken(stream, stream.read(6)) == numbered(9)[6:]


def test_nothing_is_dropped_while_nobody_reads() -> None:
    three = 3 * len(numbered(1)[0])
    later = Silence(*events(9)[2:])
    stream = started(Both(Source(*events(2)), later), window_bytes=three)
    reader = stream.read(0)
    assert taken(stream, reader, 2) == numbered(2)
    stream.leave(reader)
    later.let_go.set()
    eventually(lambda: len(later.left) <= 5)
    assert taken(stream, stream.read(0)) == numbered(9)


def test_an_event_larger_than_the_window_is_given_to_the_reader() -> None:
    stream = started(Source(*events(4)), window_bytes=1)
    assert taken(stream, stream.read(0)) == numbered(4)


def test_the_request_is_let_go_once_it_has_ended_and_is_not_read() -> None:
    source = Source(*events(2))
    stream = started(source)
    reader = stream.read(0)
    assert taken(stream, reader) == numbered(2)
    assert not source.closed.is_set()
    stream.leave(reader)
    assert source.closed.wait(SECONDS)
    assert taken(stream, stream.read(1)) == numbered(2)[1:]


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_stream_that_nobody_reads_for_too_long_is_over(silence: Silence, has_ended: bool) -> None:
    source = Source(*events(2)) if has_ended else silence
    stream = started(source, seconds=0.001)
    stream.leave(stream.read(0))
    assert source.closed.wait(SECONDS)

    def is_over() -> bool:
        try:
            stream.leave(stream.read(0))
        except StreamNotFound:
            return True
        return False

    eventually(is_over)


def test_a_full_store_forgets_what_has_ended_and_refuses_the_rest(silence: Silence) -> None:
    store = StreamStore(2 << 20)
    assert store.keep(silence, "running", FOR_EVER, "alice") is not None
    stream = store.keep(Source(*events(1)), "ended", FOR_EVER, "alice")
    assert stream is not None
    reader = stream.read(0)
    taken(stream, reader)
    assert store.keep(silence, "third", FOR_EVER) is None, "one runs and the other is read"
    stream.leave(reader)
    assert store.keep(silence, "third", FOR_EVER) is not None
    with pytest.raises(StreamNotFound):
        store.find("ended", "alice")


def test_a_stream_is_found_by_its_owner_alone(silence: Silence) -> None:
    store = StreamStore(1 << 20)
    stream = store.keep(silence, "a", FOR_EVER, "alice")
    assert store.find("a", "alice") is stream
    for name, owner in (("a", "bob"), ("a", None), ("b", "alice")):
        with pytest.raises(StreamNotFound):
            store.find(name, owner)


def test_a_store_without_memory_keeps_nothing(silence: Silence) -> None:
    assert StreamStore(0).keep(silence, "a", FOR_EVER) is None
