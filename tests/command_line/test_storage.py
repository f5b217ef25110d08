"""`rocmforge push`, `pull` and `serve s3://...` with a real S3 server, over real HTTP."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from rocmforge.__main__ import main
from runtime.registry import Registry
from runtime.settings import Settings
from tests.command_line.test_serve import serving, wait_until_ready
from tests.command_line.test_takeover import BODY, Clients, publish, wait_for_version
from tests.storage_server import BUCKET, s3_server, use_s3
from tests.waiting import SECONDS, eventually

FOLDER = f"s3://{BUCKET}/fleet"
MODEL = f"{FOLDER}/tiny"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The machine that prepares, with version 1 in the storage."""
    monkeypatch.setenv("ROCMFORGE_STORAGE_SECONDS", "1")
    with s3_server() as port:
        use_s3(monkeypatch, port)
        settings = Settings(home=tmp_path / "here")
        publish(settings, tmp_path / "tiny.gguf", seed=1)
        push(settings, "tiny")
        yield settings


def push(settings: Settings, model: str) -> None:
    assert main(["push", model, FOLDER, "--home", str(settings.home)]) == 0


def follower_of(server: int) -> int | None:
    """The process of a server that looks for new versions in the storage."""
    children = [
        int(child)
        for listed in Path(f"/proc/{server}/task").glob("*/children")
        for child in listed.read_text().split()
    ]
    for child in children:
        with suppress(FileNotFoundError):
            if b"runtime.storage.follow" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def text_of(url: str) -> str:
    answer = requests.post(f"{url}/generate", json=BODY, timeout=SECONDS)
    assert answer.ok
    return str(answer.json()["text"])


@pytest.mark.long
def test_a_running_server_takes_over_what_is_pushed_and_loses_no_request(
    here: Settings, tmp_path: Path
) -> None:
    there = tmp_path / "there" / "home"
    there.parent.mkdir()
    with serving(MODEL, there) as (server, url):
        wait_until_ready(url)
        wait_for_version(url, 1)
        first = text_of(url)
        clients = Clients(url)
        eventually(lambda: follower_of(server.pid) is not None)
        publish(here, tmp_path / "tiny.gguf", seed=2)
        push(here, "tiny")
        wait_for_version(url, 2)
        second = text_of(url)
        # The process that follows the storage is begun anew where it dies.
        follower = follower_of(server.pid)
        assert follower is not None
        os.kill(follower, signal.SIGKILL)
        # Back to the first, which is there and here already.
        push(here, "tiny@1")
        wait_for_version(url, 1)
        assert text_of(url) == first
        clients.end()
    assert second != first
    assert {answer.status_code for answer in clients.answers} == {200}
    assert {answer.json()["text"] for answer in clients.answers} == {first, second}


@pytest.mark.long
def test_a_damaged_version_is_not_taken_and_a_storage_that_is_gone_is_not_needed(
    here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there" / "home"
    there.parent.mkdir()
    log = there.parent / "log"
    with serving(MODEL, there) as (_, url):
        wait_until_ready(url)
        first = text_of(url)
        publish(here, tmp_path / "tiny.gguf", seed=2, broken=True)
        push(here, "tiny")
        eventually(
            lambda: "version 2 of tiny is not served" in log.read_text(),
            "the broken version was not reported",
        )
        assert text_of(url) == first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["rollback", "tiny", "1", "--home", str(there)]) == 0
    with serving(MODEL, there) as (_, url):
        wait_until_ready(url)
        assert text_of(url) == first
        assert "tiny@1, pulled before, is used" in log.read_text()


def test_pull_publishes_on_this_machine_and_push_takes_its_folder_from_the_settings(
    here: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = Settings(home=tmp_path / "there")
    capsys.readouterr()
    assert main(["pull", MODEL, "--home", str(there.home)]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert Registry(there).resolve("tiny") == folder
    assert main(["push", "tiny", "--home", str(here.home)]) == 2
    assert "ROCMFORGE_STORAGE" in capsys.readouterr().err
    monkeypatch.setenv("ROCMFORGE_STORAGE", FOLDER)
    assert main(["push", "tiny", "--home", str(here.home)]) == 0
    assert capsys.readouterr().out.strip() == f"{MODEL}@1"


def test_what_is_not_there_is_told_in_one_line(
    here: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", f"{FOLDER}/other", "--home", str(here.home)]) == 1
    assert f"{FOLDER}/other is not there" in capsys.readouterr().err
