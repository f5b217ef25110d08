"""Servers as child processes, so that their start and memory can be measured."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime.errors import ServerNotStarted
from runtime.processes import end_with_parent
from runtime.settings import PREFIX, Settings

LOOK_SECONDS = 0.005
START_SECONDS = 300.0
STOP_SECONDS = 15.0


class Capacity(msgspec.Struct, frozen=True):
    """The load that a server is started for."""

    streams: int
    """Number of concurrent completions."""
    tokens_per_stream: int
    """Maximum tokens of one of them, prompt and answer together."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of server that can be started on a port for some capacity."""

    name: str
    version: str
    command: Callable[[int, Capacity], list[str]]
    """Returns its command line for a port."""
    ready_path: str
    """A GET of this path is answered with 200 once the model can be used."""
    environment: tuple[tuple[str, str], ...] = ()
    """Additional environment variables of its process."""


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of a process."""

    anonymous_bytes: int
    """Memory of its own, not shared with any file."""
    total_bytes: int
    """Including mapped files, which processes of the same model share."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is ready."""

    candidate: Candidate
    url: str
    process_id: int
    start_seconds: float
    """From the start of its process to the first 200 of its ready path."""

    def memory(self) -> Memory:
        """Return the current resident memory."""
        return read_memory(Path(f"/proc/{self.process_id}/status").read_text())


def rocmforge(
    model: str, settings: Settings, version: str, *, prompt_lookup: bool = False
) -> Candidate:
    """Return our own server for a published name or an already prepared GGUF.

    Without prompt lookup each step gives a stream one token, whatever its text; with it the figures
    depend on how much the text repeats itself.
    """

    def command(port: int, capacity: Capacity) -> list[str]:
        # The settings do not depend on the capacity: streams share pages and slots.
        options = {
            "--home": settings.home.absolute(),
            "--host": "127.0.0.1",
            "--port": port,
            "--device": settings.device,
            "--weights": settings.weights,
            "--packed-bytes": settings.packed_bytes,
            "--threads": settings.threads,
            "--cache-tokens": settings.cache_tokens,
            "--token-budget": settings.token_budget,
            "--max-batch-size": settings.max_batch_size,
        }
        given = [str(part) for option in options.items() for part in option]
        return [sys.executable, "-m", "rocmforge", "serve", model, *given]

    name = "rocmforge, prompt lookup" if prompt_lookup else "rocmforge"
    # It is for this process alone, whatever the user's own servers are set to.
    alone = {
        "ask_for_keys": "never",
        "aliases": "",
        "keep_alive": "0",
        "memory_budget": "0",
        "notify_socket": "",
        "watchdog_usec": "0",
        # What it knows of earlier measurements would shorten this one.
        "kv_ram_bytes": "0",
        "kv_disk_bytes": "0",
        "role": "both",
        "kv_events": "",
        "kv_events_replay": "",
    }
    given = {"prompt_lookup": str(prompt_lookup).lower(), **alone}
    environment = tuple((PREFIX + name.upper(), value) for name, value in given.items())
    return Candidate(name, version, command, "/ready", environment)


@contextmanager
def started(candidate: Candidate, capacity: Capacity) -> Iterator[RunningServer]:
    """Yield a ready server, which ends with the block.

    Raises ServerNotStarted with its last output if it ends by itself or is not ready in time.
    """
    with tempfile.TemporaryFile() as log, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        began = time.perf_counter()
        with subprocess.Popen(
            candidate.command(port, capacity),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Python servers otherwise buffer their log.
            env={**os.environ, "PYTHONUNBUFFERED": "1", **dict(candidate.environment)},
            preexec_fn=end_with_parent,
        ) as process:
            try:
                while not _ready(port, candidate.ready_path):
                    if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                        raise ServerNotStarted(
                            f"{candidate.name} did not start: {_last_words(log.fileno())}"
                        )
                    time.sleep(LOOK_SECONDS)
                seconds = time.perf_counter() - began
                yield RunningServer(candidate, f"http://127.0.0.1:{port}", process.pid, seconds)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def read_memory(status: str) -> Memory:
    """Read memory from Linux's /proc/<process>/status, where kB are 1024 bytes."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)

    def size(name: str) -> int:
        return 1024 * int(fields[name].split()[0])

    return Memory(anonymous_bytes=size("RssAnon"), total_bytes=size("VmRSS"))


def _ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_words(log: int) -> str:
    text = os.pread(log, 1 << 20, 0).decode(errors="replace").strip()
    return text.splitlines()[-1] if text else "it said nothing"
