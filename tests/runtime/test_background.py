"""A background loop survives exceptions of its body."""

import errno
import logging
import threading

import pytest

from runtime.background import BackgroundLoop, start_once


class Panic(BaseException):
    """As what Rust code raises when it panics: no Exception."""


def test_nothing_that_the_body_raises_ends_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind is logged once, and again only after the body has worked in between."""
    ended = threading.Event()
    no_descriptors = OSError(errno.EMFILE, "Too many open files")
    outcomes: list[BaseException | None] = [
        no_descriptors,
        no_descriptors,
        OSError(errno.EIO, "Input/output error"),
        RuntimeError("Symlink loop"),
        RecursionError(),
        MemoryError(),
        Panic(),
        SystemExit(1),
        no_descriptors,
        None,
        no_descriptors,
    ]
    left = list(outcomes)

    def body() -> None:
        outcome = left.pop(0)
        if not left:
            ended.set()
        if outcome is not None:
            raise outcome

    with caplog.at_level(logging.ERROR):
        BackgroundLoop("test", body, seconds=0, ended=ended).run()
    told = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert told == [outcomes[0], *outcomes[2:8], outcomes[-1]]


def test_a_loop_runs_in_a_thread_until_it_shall_end() -> None:
    ended, called = threading.Event(), threading.Event()
    thread = BackgroundLoop("test", called.set, seconds=0, ended=ended).start()
    assert called.wait(60)
    ended.set()
    thread.join(60)
    assert not thread.is_alive()
    assert thread.daemon


def test_what_is_done_once_and_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    handler = Handler()
    logging.getLogger("rocmforge.background").addHandler(handler)

    def fail() -> None:
        raise Panic

    try:
        start_once("test", fail)
        assert told.wait(60)
    finally:
        logging.getLogger("rocmforge.background").removeHandler(handler)
