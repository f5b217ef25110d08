"""A process that computes prompts for others: python -m tests.prefill_process FOLDER HOME PAGES.

It prints a line when prompts can come, and at the end of its input the tokens it has computed.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.engine import Engine
from runtime.session import Session
from runtime.settings import Settings
from tests.waiting import SECONDS

ROOT = Path(__file__).parents[1]


def settings_of(home: Path, pages: Path) -> Settings:
    return Settings(
        home=home,
        cache_tokens=1024,
        threads=1,
        role="prefill",
        kv_disk_bytes=1 << 24,
        kv_disk_folder=pages,
    )


@contextmanager
def prefill_process(folder: Path, home: Path, pages: Path) -> Iterator["subprocess.Popen[str]"]:
    """One that is ready; it ends with the block."""
    command = [sys.executable, "-m", __name__, str(folder), str(home), str(pages)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def computed_tokens(process: "subprocess.Popen[str]") -> int:
    """End it, and return the tokens that it has computed."""
    said, _ = process.communicate(timeout=SECONDS)
    return int(said)


def main(folder: str, home: str, pages: str) -> None:
    settings = settings_of(Path(home), Path(pages))
    session = Session(Path(folder), settings=settings)
    engine = Engine(
        session,
        end_of_generation=frozenset(),
        settings=settings,
        tiers=session.page_tiers(settings),
    )
    engine.start()
    print("ready", flush=True)
    sys.stdin.read()
    assert engine.stop()
    counts = engine.statistics()
    print(counts.prefix_queried_tokens - counts.prefix_hit_tokens)


if __name__ == "__main__":
    main(*sys.argv[1:])
