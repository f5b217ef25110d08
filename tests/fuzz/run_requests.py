"""Send thousands of odd requests to one server: `make fuzz-requests`.

A greedy stream beside them must keep its text, and at the end memory, threads, descriptors and
cache pages must be back. A request that is answered wrongly is made smaller and printed.
"""

import argparse
import logging
import tempfile
import time
from collections import Counter, deque
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.answers import Client, fault
from tests.fuzz.http_requests import REQUESTS, Sent
from tests.live.background_stream import BackgroundStream
from tests.live.server import Ended, LiveServer, Vitals, options_of
from tests.models import write_tiny_llama

CONTEXT = 128
CACHE_TOKENS = 1024
WARM_UP = 150
"""Requests after which everything that is kept for later requests has been made."""
REMEMBERED = 30
"""Requests before a failure that are told, since a fault may come late."""
FEW_THREADS = ("--max-batch-size", "4", "--max-queue-length", "8")
"""A thread's stack is memory once a request went deep in it: with few all have been used soon."""
LOOK_EACH = 500
MORE_BYTES = 48 << 20
"""Anonymous memory that may have been added: allocators keep what was free once."""


log = logging.getLogger(__name__)


class Target:
    """A server with a background stream, restarted if a request ended it. Owned by one thread."""

    def __init__(self, model: Path | str, folder: Path) -> None:
        self._model = model
        self._folder = folder
        self.statuses: Counter[int] = Counter()
        self.held: list[Vitals] = []
        """After the warm-up, and again and again."""
        self._last: deque[Sent] = deque(maxlen=REMEMBERED)
        self._start()

    def _start(self) -> None:
        self.server = LiveServer(self._model, self._folder, *options_of(CACHE_TOKENS, *FEW_THREADS))
        self.server.wait_until_ready()
        self._client = Client(self.server)
        self.background = BackgroundStream(self.server)
        self.count = 0

    def send(self, sent: Sent) -> None:
        """Send one. Raises AssertionError where anything is not as it has to be."""
        self._last.append(sent)
        try:
            answer = self._client.answer(sent)
            self.server.expect_running()
            wrong = fault(sent, answer)
            self.statuses[answer.status] += 1
        except (OSError, Ended) as error:
            wrong = repr(error)
        if not self.server.running:
            self.server.end()
            self._start()
            raise AssertionError(f"the server ended: {wrong}\n{self.server.log_text()[-3000:]}")
        if wrong:
            raise AssertionError(wrong)
        if self.background.failure is not None:
            wrong, self.background = self.background.failure, BackgroundStream(self.server)
            raise AssertionError(
                f"the background stream: {wrong}; the last requests: {list(self._last)}"
            )
        self.count += 1
        if self.count == WARM_UP or self.count % LOOK_EACH == 0:
            self.held.append(self.server.vitals())
            log.info("%6d requests: %s", self.count, self.held[-1])

    def expect_all_back(self) -> tuple[Vitals, Vitals]:
        """Vitals at half the run and now. Raises AssertionError where more is held now."""
        self.background.stop()
        self._client.close()
        after = self.server.wait_until_idle()
        before = self.held[len(self.held) // 2]
        assert after.threads <= before.threads, f"threads: {before} then {after}"
        assert after.descriptors <= before.descriptors, f"descriptors: {before} then {after}"
        assert after.anonymous <= before.anonymous + MORE_BYTES, f"memory: {before} then {after}"
        return before, after

    def end(self) -> None:
        """End the server."""
        self.server.end()


def fuzz(target: Target, count: int, first: int = 0) -> None:
    """Send `count` requests of that seed. Raises AssertionError with the smallest that fails."""

    @seed(first)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(sent=REQUESTS)
    def is_answered_well(sent: Sent) -> None:
        target.send(sent)

    is_answered_well()


def main() -> None:
    """Exit with 1 and the request where one is answered wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a GGUF or a published model, instead of a tiny random one")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or write_tiny_llama(folder / "tiny.gguf", context=CONTEXT)
        target = Target(model, folder)
        try:
            fuzz(target, options.requests, options.seed)
            before, after = target.expect_all_back()
        finally:
            target.end()
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(target.statuses.items()))
    print(
        f"{sum(target.statuses.values())} requests in {time.monotonic() - began:.0f} s: {statuses}"
    )
    print(f"the background stream ran {target.background.streams} times, each time the same text")
    print(f"held at half of them: {before}\nheld at the end: {after}")


if __name__ == "__main__":
    main()
