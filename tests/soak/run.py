"""Mixed traffic for minutes, and whether all comes back: `make soak ARGS='--minutes 20'`.

Memory, threads, descriptors and cache pages are sampled while it lasts. None may grow over the
second half, and threads, descriptors and pages must be back at the end.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.sample_model import fetch
from runtime.settings import Settings
from tests.live.background_stream import BackgroundStream
from tests.live.server import LiveServer, Vitals, live_server, options_of
from tests.marked_page import write_between
from tests.soak.traffic import Traffic
from tests.soak.trend import Trend, trend

FIGURES = ("resident", "anonymous", "threads", "descriptors", "pages")
MEBIBYTE = 1 << 20
CACHE_TOKENS = 4096
FEW_THREADS = ("--max-batch-size", "16", "--max-queue-length", "16")
"""So that all have been used when the samples begin."""
MOST_BYTES_AN_HOUR = 32 * MEBIBYTE
"""Growth of anonymous memory over the second half of a long run that passes: a leak of a kilobyte
a request is ten times that."""
MORE_BYTES = 64 * MEBIBYTE
"""Anonymous memory that may be held more after than before: allocators keep what was free once."""
SETTLE_SECONDS = 20.0
BEGIN, END = "<!-- soak -->", "<!-- /soak -->"


@dataclass(frozen=True)
class Soaked:
    """The samples of a run. Immutable."""

    seconds: tuple[float, ...]
    samples: tuple[Vitals, ...]
    """The first before, the last after the traffic."""
    done: dict[str, int]
    streams: int
    """Complete runs of the background stream, each with the same text."""

    def trends(self) -> list[Trend]:
        """One of each figure."""
        return [
            trend(name, self.seconds, [getattr(one, name) for one in self.samples])
            for name in FIGURES
        ]

    def faults(self, most_bytes_an_hour: float = MOST_BYTES_AN_HOUR) -> list[str]:
        """Resources that were not freed, or grow."""
        before, after = self.samples[0], self.samples[-1]
        wrong = [
            f"{name}: {getattr(before, name)} before, {getattr(after, name)} after"
            for name in ("threads", "descriptors", "pages")
            if getattr(after, name) > getattr(before, name)
        ]
        if after.anonymous > before.anonymous + MORE_BYTES:
            wrong.append(f"memory: {before.anonymous} bytes before, {after.anonymous} after")
        (memory,) = (one for one in self.trends() if one.name == "anonymous")
        if memory.slope > most_bytes_an_hour:
            wrong.append(f"memory grows by {memory.slope / MEBIBYTE:.1f} MiB an hour")
        return wrong


def soak(
    server: LiveServer, *, seconds: float, every: float, clients: int, warm_up: float
) -> Soaked:
    """Traffic of this many clients for `seconds`, sampled `every` seconds, after a warm-up.

    Raises AssertionError where an answer was wrong or the background stream's text changed.
    """
    background = BackgroundStream(server)
    warming = Traffic(server, clients, seed=1000)
    warming.start()
    time.sleep(warm_up)
    warming.stop()
    background.stop()
    samples, times, began = [server.wait_until_idle()], [0.0], time.monotonic()
    background, traffic = BackgroundStream(server), Traffic(server, clients)
    traffic.start()
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(min(every, seconds - passed))
        samples.append(server.vitals())
        times.append(time.monotonic() - began)
    traffic.stop()
    background.stop()
    samples.append(_settled(server, samples[0]))
    times.append(time.monotonic() - began)
    return Soaked(tuple(times), tuple(samples), dict(traffic.counts), background.streams)


def _settled(server: LiveServer, before: Vitals) -> Vitals:
    """The server when it holds no more than before, or after SETTLE_SECONDS.

    A connection whose client has gone is closed a moment after its request has ended.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = server.wait_until_idle()
        is_back = now.threads <= before.threads and now.descriptors <= before.descriptors
        if is_back or time.monotonic() > deadline:
            return now
        time.sleep(0.2)


def table(soaked: Soaked) -> str:
    """The run in two Markdown tables: every figure, and what the clients did."""
    rows = [
        "| | before | most | after | slope over the second half, an hour |",
        "|---|---|---|---|---|",
    ]
    for one in soaked.trends():
        unit = MEBIBYTE if one.name in ("resident", "anonymous") else 1
        digits = 1 if unit > 1 else 0
        numbers = [f"{value / unit:.{digits}f}" for value in (one.first, one.most, one.last)]
        name = f"{one.name} memory, MiB" if unit > 1 else one.name
        rows.append(f"| {name} | {' | '.join(numbers)} | {one.slope / unit:+.2f} |")
    done = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(soaked.done.items())
    )
    told = (
        f"{soaked.seconds[-1] / 60:.1f} minutes, {sum(soaked.done.values())} actions of clients "
        f"({done}), and {soaked.streams} runs of a greedy stream, each with the same text."
    )
    return "\n".join([told, "", *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 1 where anything did not come back."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--warm-up", type=float, default=30, help="seconds of traffic before")
    parser.add_argument("--model", help="a GGUF or a published model instead of the sample")
    parser.add_argument("--document", type=Path, help="page to write the figures into")
    options = parser.parse_args(arguments)
    model = options.model or fetch(Settings.from_environment().cache_folder, print)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with live_server(model, folder, *options_of(CACHE_TOKENS, *FEW_THREADS)) as server:
            soaked = soak(
                server,
                seconds=60 * options.minutes,
                every=options.every,
                clients=options.clients,
                warm_up=options.warm_up,
            )
    for passed, one in zip(soaked.seconds, soaked.samples, strict=True):
        print(f"{passed:7.1f} s {one}")
    text = table(soaked)
    print(text)
    if faults := soaked.faults():
        raise SystemExit("\n".join(faults))
    if options.document is not None:
        write_between(options.document, BEGIN, text, END)


if __name__ == "__main__":
    main()
