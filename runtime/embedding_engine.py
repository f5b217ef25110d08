"""One thread that turns texts of many requests into vectors."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from runtime.embedding import Embedder, Tokens, Vector
from runtime.errors import EngineUnavailable, RocmForgeError
from runtime.manifest import Pooled
from runtime.session import Session
from runtime.settings import Settings

Vectors = Future[list[Vector]]
"""The vectors of one request, in the order of its texts. Cancelled, it is computed no further."""

log = logging.getLogger("rocmforge.embedding")


@dataclass(eq=False, slots=True)
class _Job:
    """One request. Owned by the engine's thread."""

    texts: Sequence[Tokens]
    answer: Vectors
    begun: int = 0
    """Texts that are in a step or computed."""
    vectors: list[Vector] = field(default_factory=list)

    @property
    def has_more(self) -> bool:
        """Whether texts are still to be computed."""
        return self.begun < len(self.texts) and not self.answer.cancelled()


class EmbeddingEngine:
    """Batches texts over one session, in a thread of its own.

    A step takes a text of each request in turn, up to the token budget, so a request of a thousand
    texts delays one of a single text by about a step. `submit` and `stop` may be called from any
    thread; the session and the jobs are owned by the engine's.
    """

    def __init__(self, session: Session, settings: Settings) -> None:
        """Own a session. Raises InvalidRequest for a model that generates text."""
        self.manifest = session.manifest
        self._embedder = Embedder(
            session, page_size=settings.page_size, token_budget=settings.token_budget
        )
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        """Requests to add, or None to stop behind them."""
        self._submitting = threading.Lock()
        self._accepting = True
        self._thread: threading.Thread | None = None

    @property
    def pooled(self) -> Pooled:
        """What the model gives for a text."""
        return self._embedder.pooled

    @property
    def context_length(self) -> int:
        """Most tokens of a text."""
        return self._embedder.context_length

    def start(self) -> None:
        """Start the engine's thread, which computes what was submitted before, too."""
        self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new requests, compute those that are there, and return."""
        with self._submitting:
            self._accepting = False
            self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()

    def submit(self, texts: Sequence[Tokens]) -> Vectors:
        """Queue the texts of one request.

        Raises InvalidRequest or ContextLengthExceeded for a text that cannot be computed, and
        EngineUnavailable after `stop`. The future raises what a step raised.
        """
        for text in texts:
            self._embedder.check(text)
        answer: Vectors = Future()
        with self._submitting:
            if not self._accepting:
                raise EngineUnavailable("the engine takes no requests now; try again later")
            self._inbox.put(_Job(texts, answer))
        return answer

    def _run(self) -> None:
        jobs: deque[_Job] = deque()
        stopping = False
        while jobs or not stopping:
            while not stopping and (not jobs or not self._inbox.empty()):
                job = self._inbox.get()
                if job is None:
                    stopping = True
                else:
                    jobs.append(job)
            self._step(jobs)

    def _step(self, jobs: deque[_Job]) -> None:
        """Compute the next texts; those of `jobs` that stay are in the order of the next turn."""
        taken: list[_Job] = []
        texts: list[Tokens] = []
        while jobs:
            job = jobs[0]
            if job.has_more:
                wanted = [*map(len, texts), len(job.texts[job.begun])]
                if self._embedder.fitting(wanted) < len(wanted):
                    break
                texts.append(job.texts[job.begun])
                taken.append(job)
                job.begun += 1
            jobs.popleft()
            if job.has_more:
                jobs.append(job)
        if not texts:
            return
        try:
            vectors = self._embedder.vectors(texts)
        except BaseException as error:  # including panics of Rust libraries
            self._fail(taken, error)
            for job in {*taken} & {*jobs}:
                jobs.remove(job)
            return
        for job, vector in zip(taken, vectors, strict=True):
            job.vectors.append(vector)
            if len(job.vectors) == len(job.texts) and job.answer.set_running_or_notify_cancel():
                job.answer.set_result(job.vectors)

    def _fail(self, taken: Sequence[_Job], error: BaseException) -> None:
        if not isinstance(error, RocmForgeError):
            log.error("a step failed", exc_info=error)
            error = EngineUnavailable("the texts could not be computed; the server's log says why")
        for job in {*taken}:
            if job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(error)
