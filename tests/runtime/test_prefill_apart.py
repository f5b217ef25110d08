"""Two processes: one computes prompts, the other one answers them, with the same bits."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.errors import SettingsError
from runtime.page_tiers import prefill_client, prefill_socket
from runtime.page_tiers.handover import Prompt, listening, receive, send
from runtime.page_tiers.prefill_client import PrefillClient
from runtime.session import Session
from runtime.settings import Settings
from tests.prefill_process import computed_tokens, prefill_process
from tests.runtime.test_kept_pages import (
    GREEDY,
    OTHER,
    PAGE,
    PROMPT,
    answered,
    bits,
    running,
    tiers,
)
from tests.waiting import SECONDS, eventually


@pytest.fixture
def pages() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="kv-") as folder:
        yield Path(folder)


@pytest.fixture
def decoding(settings: Settings, pages: Path) -> Settings:
    return msgspec.structs.replace(
        settings, role="decode", kv_disk_bytes=1 << 24, kv_disk_folder=pages
    )


@pytest.fixture
def plain(prepared: Path, settings: Settings) -> tuple[object, ...]:
    """The answer of one process that computes all."""
    with running(prepared, settings) as engine:
        return bits(answered(engine))


def test_a_prompt_is_computed_by_one_process_and_answered_by_another(
    prepared, settings, decoding, pages, plain
) -> None:
    with prefill_process(prepared, settings.home, pages) as process:
        with running(prepared, decoding) as engine:
            first = answered(engine)
            assert bits(first) == plain
            assert first.prefix_hit_tokens == 10 * PAGE
            assert bits(answered(engine)) == plain
            assert tiers(engine).prompts_handed_over == 1
        assert computed_tokens(process) == 10 * PAGE


def test_prompts_with_the_same_beginning_are_handed_over_once(
    prepared, settings, decoding, pages, plain
) -> None:
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        together = [engine.submit(PROMPT, GREEDY, 20) for _ in range(5)]
        assert all(each.wait(SECONDS) for each in together)
        assert {each.tokens for each in together} == {plain[0]}
        assert computed_tokens(process) == 10 * PAGE


def test_short_prompts_are_computed_where_they_are_answered(
    prepared, settings, decoding, pages
) -> None:
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        assert len(answered(engine, PROMPT[: 3 * PAGE + 5]).tokens) == 20
        assert computed_tokens(process) == 0


def test_only_equal_salts_share_what_was_computed(prepared, settings, decoding, pages) -> None:
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        for salt in (b"one", b"other"):
            assert answered(engine, salt=salt).prefix_hit_tokens == 10 * PAGE
        assert computed_tokens(process) == 2 * 10 * PAGE


def test_without_the_other_process_prompts_are_computed_here(
    prepared, decoding, plain, caplog
) -> None:
    with running(prepared, decoding) as engine:
        assert bits(answered(engine)) == plain
        assert answered(engine, OTHER).prefix_hit_tokens == 0
    assert caplog.text.count("prompts are computed here") == 1


def test_a_prompt_whose_process_is_killed_is_computed_here_and_others_go_on_meanwhile(
    prepared, settings, decoding, pages, plain
) -> None:
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        os.kill(process.pid, signal.SIGSTOP)
        waiting = engine.submit(PROMPT, GREEDY, 20)
        cancelled = engine.submit(OTHER, GREEDY, 20)
        assert len(answered(engine, [1, 2, 3]).tokens) == 20
        engine.abort(cancelled.request_id)
        assert cancelled.wait(SECONDS)
        assert engine.statistics().queued == 1
        process.kill()
        assert waiting.wait(SECONDS)
        assert waiting.tokens == plain[0]
        assert waiting.prefix_hit_tokens == 0


def test_a_process_that_comes_back_computes_again(prepared, settings, decoding, pages) -> None:
    with running(prepared, decoding) as engine:
        for prompt, computed in ((PROMPT, 10 * PAGE), (OTHER, 7 * PAGE)):
            with prefill_process(prepared, settings.home, pages) as process:
                answered(engine, prompt)
                assert computed_tokens(process) == computed


def test_the_pages_of_killed_processes_are_found_by_another_one(
    prepared, settings, decoding, pages, plain
) -> None:
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        answered(engine)
        process.kill()
        process.wait(SECONDS)
    alone = msgspec.structs.replace(decoding, role="both")
    with running(prepared, alone) as engine:
        again = answered(engine)
        assert bits(again) == plain
        assert again.prefix_hit_tokens == 10 * PAGE


def test_what_is_no_prompt_is_refused_and_the_next_one_is_computed(
    prepared, settings, decoding, pages
) -> None:
    manifest = Session(prepared, settings=settings).manifest
    path = prefill_socket(manifest, decoding)
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        for junk in (b"", b"\xff\xff\xff\xff", b"\0\0\0\4junk", b"\0\0\1\0too short"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) in (b"", b"\0")
        for prompt in (Prompt((), b""), Prompt((10**9,), b"")):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                send(connection, prompt)
                assert connection.recv(1) == b"\0"
        assert answered(engine).prefix_hit_tokens == 10 * PAGE
        assert computed_tokens(process) == 10 * PAGE


def test_no_prompt_is_sent_into_a_folder_that_others_can_write_to(
    prepared, settings, decoding, pages, plain
) -> None:
    with (
        prefill_process(prepared, settings.home, pages) as process,
        running(prepared, decoding) as engine,
    ):
        pages.chmod(0o777)
        assert bits(answered(engine)) == plain
        assert computed_tokens(process) == 0
        assert tiers(engine).prompts_handed_over == 0


def test_a_process_that_hangs_delays_no_further_prompts(
    pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefill_client, "PATIENCE_SECONDS", 0.01)
    client = PrefillClient(pages / "s")
    with listening(pages / "s"):
        asked = client.ask(PROMPT, b"", wake=lambda: None)
        assert asked is not None
        eventually(lambda: asked.ended)
        assert client.ask(PROMPT, b"", wake=lambda: None) is None


def test_a_prompt_that_is_computed_elsewhere_holds_no_pages(prepared, decoding) -> None:
    path = prefill_socket(Session(prepared, settings=decoding).manifest, decoding)
    tight = {"cache_tokens": 12 * PAGE}
    with running(prepared, decoding, **tight) as engine:
        chats = [PROMPT[: 5 * PAGE], OTHER[: 5 * PAGE]]
        for chat in chats:
            assert engine.submit(chat, GREEDY, 1).wait(SECONDS)
        with listening(path):  # and never takes a prompt
            longer = [engine.submit([*chat, *OTHER[: 4 * PAGE]], GREEDY, 2) for chat in chats]
            fetches = engine._core._scheduler._fetches
            assert fetches is not None
            eventually(lambda: len(fetches._asked) == 2)
            short = engine.submit(OTHER[-3 * PAGE :], GREEDY, 2)
            assert short.wait(SECONDS)
            assert engine.statistics().queued == 2
        assert all(each.wait(SECONDS) for each in longer)
        assert [len(each.tokens) for each in longer] == [2, 2]


def test_a_prompt_arrives_as_it_was_sent(pages: Path) -> None:
    prompt = Prompt(tuple(range(100_000)), b"salt")
    with listening(pages / "s") as listener, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(pages / "s"))
        taken, _ = listener.accept()
        with taken:
            sender = threading.Thread(target=send, args=(connection, prompt))
            sender.start()
            assert receive(taken) == prompt
            sender.join()


def test_the_socket_is_gone_at_the_end(prepared, settings, decoding, pages) -> None:
    with prefill_process(prepared, settings.home, pages) as process:
        assert len(list(pages.glob("*.sock"))) == 1
        computed_tokens(process)
        eventually(lambda: list(pages.glob("*.sock")) == [])


def test_a_role_needs_pages_on_disk_and_a_short_path(prepared, settings, tmp_path) -> None:
    with pytest.raises(SettingsError, match="--kv-disk-bytes"):
        Settings.from_environment({}, role="decode")
    folder = tmp_path / ("x" * 100)
    long = msgspec.structs.replace(
        settings, role="decode", kv_disk_bytes=1 << 24, kv_disk_folder=folder
    )
    with pytest.raises(SettingsError, match="shorter"):
        Session(prepared, settings=long).page_tiers(long)
