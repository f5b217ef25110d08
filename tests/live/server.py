"""`rocmforge serve` as a child process, and the system's figures of that process."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.waiting import SECONDS

LOOK_SECONDS = 0.05
STATUS_LINE = re.compile(r"^(VmRSS|RssAnon|Threads):\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Vitals:
    """Resources of a server at one moment."""

    resident: int
    """Bytes of memory, mapped files included."""
    anonymous: int
    """Bytes that no file backs."""
    threads: int
    descriptors: int
    pages: int
    """Cache pages that requests hold."""
    requests: int
    """Requests that are running or waiting."""


class Ended(Exception):
    """The server's process is gone."""


class LiveServer:
    """One `rocmforge serve` process. Owned by the thread that makes it; any thread may ask it."""

    def __init__(
        self,
        model: Path | str,
        folder: Path,
        *options: str,
        home: Path | None = None,
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        """Serve `model` on any port, with its home and its log below `folder`.

        `options` are the command line's; `before_exec` runs in the child, as to lower its limits.
        """
        home = home or folder / "home"
        self.log = folder / "log"
        command = [sys.executable, "-m", "rocmforge", "serve", str(model), "--port", "0"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--home", str(home), *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=before_exec,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://([^\s:]+):(\d+)", line)
        if not found:
            self.end()
            raise Ended(f"no address in {line!r}: {self.log_text()}")
        self.url, self.host, self.port = found.group(), found.group(1), int(found.group(2))

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def wait_until_ready(self) -> None:
        """Return when requests are taken. Raises Ended, or TimeoutError."""
        deadline = time.monotonic() + SECONDS
        while requests.get(f"{self.url}/ready", timeout=SECONDS).status_code != 200:
            self.expect_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready: {self.log_text()}")
            time.sleep(LOOK_SECONDS)

    def wait_until_idle(self) -> Vitals:
        """What the server holds once no request runs. Raises TimeoutError where one stays."""
        deadline = time.monotonic() + SECONDS
        while True:
            vitals = self.vitals()
            if vitals.requests == 0 and vitals.pages == 0:
                return vitals
            if time.monotonic() > deadline:
                raise TimeoutError(f"requests or pages never came back: {vitals}")
            time.sleep(LOOK_SECONDS)

    def vitals(self) -> Vitals:
        """What the server holds now. Raises Ended."""
        self.expect_running()
        metrics = requests.get(f"{self.url}/metrics", timeout=SECONDS).text
        process = Path("/proc") / str(self.process.pid)
        status = dict(STATUS_LINE.findall((process / "status").read_text()))
        return Vitals(
            resident=int(status["VmRSS"]) * 1024,
            anonymous=int(status["RssAnon"]) * 1024,
            threads=int(status["Threads"]),
            descriptors=sum(1 for _ in (process / "fd").iterdir()),
            pages=gauge(metrics, "rocmforge_cache_pages_used"),
            requests=gauge(metrics, "rocmforge_active_requests")
            + gauge(metrics, "rocmforge_queue_length"),
        )

    def expect_running(self) -> None:
        """Raise Ended with the log's last lines where the process is gone."""
        if not self.running:
            last = "\n".join(self.log_text().splitlines()[-30:])
            raise Ended(f"the server ended with {self.process.returncode}:\n{last}")

    def log_text(self) -> str:
        """All that it wrote to standard error."""
        return self.log.read_text(errors="replace")

    def end(self) -> None:
        """End the process, however."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def live_server(
    model: Path | str, folder: Path, *options: str, **more: object
) -> Iterator[LiveServer]:
    """A server that is ready, for the time of a block."""
    server = LiveServer(model, folder, *options, **more)  # type: ignore[arg-type]
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


def gauge(metrics: str, name: str) -> int:
    """A whole number of a Prometheus text."""
    (value,) = re.findall(rf"^{name} (\d+)$", metrics, re.MULTILINE)
    return int(value)


def options_of(cache_tokens: int, *more: str) -> Sequence[str]:
    """Options of a small server."""
    return ("--cache-tokens", str(cache_tokens), "--threads", "1", "--device", "cpu", *more)
