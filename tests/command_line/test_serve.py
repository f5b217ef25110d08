"""`rocmforge serve` as its own process: from the first line it prints to the end of its signal."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

PROGRAM = (sys.executable, "-m", "rocmforge")


@contextmanager
def serving(
    model: Path | str,
    home: Path,
    cache_tokens: int = 1024,
    further: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address; killed at the end if it still runs."""
    command = [*program, "serve", str(model), *further, "--port", "0"]
    with (home.parent / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--home", str(home), "--cache-tokens", str(cache_tokens)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"no address in {line!r}: {(home.parent / 'log').read_text()}"
        yield process, found.group()
    finally:
        process.kill()
        process.wait()


def wait_until_ready(url: str) -> None:
    eventually(lambda: requests.get(f"{url}/ready", timeout=SECONDS).status_code == 200)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_unprepared_file_is_prepared_served_and_left_in_peace(
    tmp_path: Path, number: signal.Signals
) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with serving(model, tmp_path / "home") as (process, url):
        # /health is there before the model is.
        assert requests.get(f"{url}/health", timeout=SECONDS).status_code == 200
        wait_until_ready(url)
        answer = requests.post(
            f"{url}/generate", json={"prompt": "hello", "max_tokens": 5}, timeout=SECONDS
        ).json()
        assert answer["finished"]
        listed = requests.get(f"{url}/models", timeout=SECONDS).json()["models"]
        assert [one["metadata"]["general.architecture"] for one in listed] == ["llama"]
        process.send_signal(number)
        assert process.wait(SECONDS) == 0


def test_a_model_that_cannot_be_loaded_ends_the_server_with_one_line(tmp_path: Path) -> None:
    model = tmp_path / "garbage.gguf"
    model.write_bytes(b"GGUF" + bytes(200))
    with serving(model, tmp_path / "home") as (process, _):
        assert process.wait(SECONDS) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("rocmforge: ")
    assert "garbage.gguf" in last


@pytest.mark.sample
def test_the_sample_model_is_served_in_300_megabytes_beside_its_file(
    sample_model: Path, sample_home: Path
) -> None:
    prompt = "Once upon a time there was a king who had three sons. " * 20
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": 20, "temperature": 0}
    with serving(sample_model, sample_home, cache_tokens=4096) as (process, url):
        wait_until_ready(url)
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(
                lambda _: requests.post(f"{url}/v1/completions", json=body, timeout=SECONDS),
                range(8),
            )
            assert [answer.status_code for answer in answers] == [200] * 8
        # What is mapped from files, the weights above all, is shared and can be dropped.
        assert anonymous_megabytes(process.pid) < 300


@pytest.mark.sample
def test_the_sample_model_answers_a_conversation(sample_model: Path, sample_home: Path) -> None:
    messages = [{"role": "user", "content": "What is the capital of France? One sentence."}]
    body: dict[str, Any] = {"messages": messages, "max_tokens": 24, "temperature": 0}
    with serving(sample_model, sample_home, cache_tokens=512) as (_, url):
        wait_until_ready(url)
        path = f"{url}/v1/chat/completions"
        answer = requests.post(path, json=body, timeout=SECONDS).json()
        (choice,) = answer["choices"]
        assert "Paris" in choice["message"]["content"]
        assert choice["finish_reason"] == "stop"
        with requests.post(
            path, json={**body, "stream": True}, stream=True, timeout=SECONDS
        ) as sent:
            events = [line.removeprefix(b"data: ") for line in sent.iter_lines() if line]
        assert events.pop() == b"[DONE]"
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
        text = "".join(delta.get("content", "") for delta in deltas)
        assert text == choice["message"]["content"]


def anonymous_megabytes(pid: int) -> float:
    """Memory of a process that no file backs."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kibibytes,) = re.findall(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kibibytes) * 1024 / 1e6


def test_a_taken_port_is_told_at_once(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with serving(model, tmp_path / "home") as (_, url):
        port = url.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "rocmforge", "serve", str(model), "--port", port],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    assert second.returncode == 2
    assert port in second.stderr.splitlines()[-1]


@pytest.mark.parametrize("redirection", ["> /dev/full", "2> /dev/full", "| true"])
def test_a_server_whose_output_cannot_be_written_goes_on(tmp_path: Path, redirection: str) -> None:
    model, port = write_tiny_llama(tmp_path / "tiny.gguf"), free_port()
    options = f"--port {port} --home {tmp_path / 'home'} --cache-tokens 1024"
    command = f"{sys.executable} -m rocmforge serve {model} {options} {redirection}"
    process = subprocess.Popen(command, shell=True, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/ready"
        eventually(lambda: process.poll() is not None or answers(url))
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=SECONDS).status_code == 200
    except requests.ConnectionError:
        return False
