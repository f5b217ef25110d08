"""Kills preparations at random moments and looks at what they leave behind.

    python -m tests.pipelines.kill_preparations --rounds 50 --seed 1

Each round gives the file a new content, begins `rocmforge prepare` and sends it SIGKILL at a moment
between its start and the time that a whole one takes. Then what is published must be whole, the
processes that the preparation had started must be gone, and the next preparation must leave
nothing but published files.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.files import PARTIAL_PREFIX
from runtime.registry import Registry
from runtime.settings import Settings
from tests.models import write_tiny_llama

DEADLINE_SECONDS = 120.0
"""After which something hangs; nothing here takes so long that works."""


@dataclass(frozen=True)
class Round:
    """What became of one preparation that was killed."""

    seconds: float
    """From its start to the kill."""
    was_killed: bool
    """False where it had ended before."""
    left_staging: bool
    children: int
    """Processes that it had started and that ran when it was killed."""
    child_seconds: float
    """From the kill to the end of the last of them."""


class Preparations:
    """Preparations of one file in a home folder of their own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.settings = Settings(home=folder / "home")
        self._registry = Registry(self.settings)
        self._gguf = folder / "tiny.gguf"
        self._random = random.Random(seed)
        self._written = seed

    def whole(self) -> float:
        """Prepare a new content without a kill; the seconds that it takes."""
        self._write()
        began = time.monotonic()
        self._start().communicate(timeout=DEADLINE_SECONDS)
        self.expect_whole()
        self.expect_tidy()
        return time.monotonic() - began

    def killed(self, longest: float) -> Round:
        """Kill one at a moment up to `longest` seconds after its start, and look."""
        self._write()
        before = self._registry.current("tiny")
        moment = self._random.uniform(0, longest)
        process = self._start()
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        children = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        was_killed = process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
        while any(is_running(child) for child in children):
            assert time.monotonic() - began < DEADLINE_SECONDS, "a child outlives its parent"
            time.sleep(0.01)
        child_seconds = time.monotonic() - began
        self.expect_whole()
        after = self._registry.current("tiny")
        assert before is None or after is not None, "the version before is not served any more"
        staging = bool(self._registry.stagings("tiny"))
        return Round(moment, was_killed, staging, len(children), child_seconds)

    def expect_whole(self) -> None:
        """Whatever is listed can be loaded, and nothing is listed as broken."""
        for name in self._registry.names():
            assert self._registry.broken(name) == []
            for model in self._registry.versions(name):
                model.verify()

    def expect_tidy(self) -> None:
        """Nothing stands under the home folder but what is published."""
        left = [
            path
            for path in self.settings.home.rglob("*")
            if path.name.startswith((PARTIAL_PREFIX, ".removed", "current.new"))
            or path.parent.name == "staging"
        ]
        assert left == []

    def _write(self) -> None:
        self._written += 1
        self._gguf.unlink(missing_ok=True)
        write_tiny_llama(self._gguf, seed=self._written)

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(self.settings.home)
        return subprocess.Popen(
            [sys.executable, "-m", "rocmforge", "prepare", str(self._gguf), "--home", home],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found: list[int] = []
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in tasks.read_text().split()]
        except OSError:  # it has just ended
            continue
        found += [each for child in children for each in (child, *descendants(child))]
    return found


def is_running(process: int) -> bool:
    """Whether a process is there and no zombie, which only waits for its new parent."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def kill_preparations(folder: Path, rounds: int, seed: int) -> list[Round]:
    """Kill `rounds` preparations and look after each; ends with a whole one."""
    preparations = Preparations(folder, seed)
    longest = preparations.whole()
    outcomes: list[Round] = []
    for number in range(rounds):
        outcomes.append(preparations.killed(longest))
        print(f"{number + 1}: {outcomes[-1]}", flush=True)
        if number % 10 == 9:
            longest = preparations.whole()
    preparations.whole()
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_preparations(Path(folder), options.rounds, options.seed)
    killed = [outcome for outcome in outcomes if outcome.was_killed]
    with_children = [outcome.child_seconds for outcome in killed if outcome.children]
    print(
        f"{len(killed)} of {len(outcomes)} preparations were killed, {len(with_children)} while a "
        f"child ran, which ended within {max(with_children, default=0):.2f} s; "
        f"{sum(outcome.left_staging for outcome in killed)} left a staging folder, which the next "
        "preparation removed; everything that was published was whole"
    )


if __name__ == "__main__":
    main()
