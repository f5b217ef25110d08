"""Checks in a child process whether grammars can be compiled.

The compiler follows references by recursion and weighs regular expressions against each other,
which takes as much stack and time as a client likes. So each grammar is compiled there first: what
ends or hangs that process is refused, and the server goes on.
"""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import IO

MAX_SECONDS = 5.0
"""For one grammar, on a busy machine too."""
STACK_BYTES = 2 << 20
"""Of the thread that compiles there: less than threads of a server have."""
MAX_REMEMBERED = 256
"""Grammars whose verdict is kept."""
TOO_LARGE = "it takes too much work; make it smaller or nest it less"


class CompilerProcess:
    """Sends grammars to the process, restarting it if it has ended. Any thread may use it.

    One grammar is compiled at a time.
    """

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: SimpleQueue[str] = SimpleQueue()
        self.complaint = lru_cache(MAX_REMEMBERED)(self._complaint)
        """Return what is wrong with a grammar in llguidance's form; empty if nothing is."""

    def close(self) -> None:
        """End the process; the next question starts it again."""
        with self._asking:
            self._end()

    def _complaint(self, source: str) -> str:
        with self._asking:
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(json.dumps(source) + "\n")
                process.stdin.flush()
                line = self._answers.get(timeout=MAX_SECONDS)
            except (Empty, OSError):
                line = ""
            if not line:
                self._end()
                return TOO_LARGE
            return str(json.loads(line))

    def _running(self) -> subprocess.Popen[str]:
        """Return the process, started if there is none."""
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            assert self._process.stdout is not None
            self._answers = SimpleQueue()
            reader = threading.Thread(
                target=_read, args=(self._process.stdout, self._answers), daemon=True
            )
            reader.start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(OSError):  # for output that was not read
                process.stdin.close()


def _read(lines: IO[str], answers: "SimpleQueue[str]") -> None:
    """Pass lines on, and an empty text at the end."""
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")


def main() -> None:
    """Answer each line, a grammar as a JSON string, with one: what is wrong with it."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(verbose_errors=False)
    for line in sys.stdin:
        print(json.dumps(LLMatcher.validate_grammar(json.loads(line), limits=limits)), flush=True)


if __name__ == "__main__":
    threading.stack_size(STACK_BYTES)
    _thread = threading.Thread(target=main)
    _thread.start()
    _thread.join()
