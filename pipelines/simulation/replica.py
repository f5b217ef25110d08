"""One simulated server: the real scheduler and page manager, and steps that take modelled time."""

from dataclasses import dataclass

from pipelines.simulation.step_times import StepTimes, work_of
from runtime.pace import Pace
from runtime.page_changes import Changes, PageChanges
from runtime.pages import PageManager
from runtime.plan import StepPlan
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence
from runtime.settings import CPU_CACHE_TOKENS, Settings

NS_PER_SECOND = 1_000_000_000


@dataclass(slots=True, eq=False)
class Question:
    """A request of the simulation and its times in nanoseconds. Owned by one thread."""

    chat: int
    """Index of its chat in the trace."""
    turn: int
    system: str
    sequence: Sequence
    answer: tuple[int, ...]
    """The tokens that it gets."""
    asked_ns: int
    replica: int = -1
    hit_tokens: int = -1
    """Prompt tokens found in cached pages when it first ran; -1 before."""
    first_ns: int = -1
    """When its first token came; -1 before."""
    ended_ns: int = -1

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of its prompt."""
        return self.sequence.prompt_length


@dataclass(slots=True)
class ReplicaCounts:
    """What a replica has done. Owned by the simulation's thread."""

    busy_ns: int = 0
    steps: int = 0
    tokens: int = 0
    """Tokens computed: prompts and answers."""
    stored_pages: int = 0
    event_batches: int = 0
    """Steps after which pages had changed."""


class Replica:
    """A server of a fleet, in steps: `begin_step`, and `end_step` when its time is over.

    Mirrors what `EngineCore.step` does with the scheduler; tokens are those of the trace. Owned by
    one thread.
    """

    def __init__(self, settings: Settings, times: StepTimes) -> None:
        size = settings.page_size
        self._times = times
        self._changes = PageChanges(wake=lambda: None)
        self._pages = PageManager(
            (settings.cache_tokens or CPU_CACHE_TOKENS) // size,
            size,
            forgotten=(self._changes.forgotten,),
        )
        self._scheduler = Scheduler(
            self._pages,
            token_budget=settings.token_budget,
            max_running=settings.max_batch_size,
            changes=self._changes,
        )
        self._pace = Pace(settings.longest_pause)
        self._arrived: list[Question] = []
        self._live: dict[int, Question] = {}
        self._plan: StepPlan | None = None
        self.counts = ReplicaCounts()

    @property
    def in_step(self) -> bool:
        """Whether a step is being computed."""
        return self._plan is not None

    @property
    def prefix_queried_tokens(self) -> int:
        """Prompt tokens that the scheduler looked for in its pages."""
        return self._scheduler.counts.prefix_queried_tokens

    @property
    def prefix_hit_tokens(self) -> int:
        """Number of them that it found."""
        return self._scheduler.counts.prefix_hit_tokens

    @property
    def preemptions(self) -> int:
        """Requests that gave their pages back and were computed again."""
        return self._scheduler.counts.preemptions

    def submit(self, question: Question) -> None:
        """Queue a request; the next step takes it in."""
        self._arrived.append(question)

    def begin_step(self) -> int | None:
        """Plan the next step; returns the nanoseconds until its tokens are out, None if idle."""
        for question in self._arrived:
            self._live[question.sequence.request_id] = question
            self._scheduler.add(question.sequence)
        self._arrived.clear()
        plan = self._scheduler.plan(self._pace.patience)
        if plan is None:
            return None
        self._plan = plan
        for row in plan.rows:
            question = self._live[row.sequence.request_id]
            if question.hit_tokens < 0:
                question.hit_tokens = row.sequence.prefix_hits
        model_ns = self._times.model_ns(work_of(plan))
        self._pace.step_done(model_ns / NS_PER_SECOND, plan.token_count, pauses=plan.pauses)
        took = model_ns + self._times.engine_ns(len(plan.rows))
        self.counts.busy_ns += took
        self.counts.steps += 1
        self.counts.tokens += plan.token_count
        return took

    def end_step(self, now_ns: int) -> list[Question]:
        """Give out the step's tokens; returns the requests that have their last one."""
        plan, self._plan = self._plan, None
        assert plan is not None
        self._scheduler.commit(plan)
        ended: list[Question] = []
        for row in plan.rows:
            if not row.samples:
                continue
            sequence = row.sequence
            question = self._live[sequence.request_id]
            if question.first_ns < 0:
                question.first_ns = now_ns
            given = len(sequence.tokens) - sequence.prompt_length
            sequence.tokens.append(question.answer[given])
            if given + 1 == len(question.answer):
                question.ended_ns = now_ns
                del self._live[sequence.request_id]
                self._scheduler.remove(sequence)
                ended.append(question)
        return ended

    def take_changes(self) -> Changes:
        """Return the changes of its pages in the last step, as a server publishes them."""
        self._changes.hand_over()
        changes = self._changes.take()
        self.counts.stored_pages += sum(page is not None for page in changes.values())
        self.counts.event_batches += bool(changes)
        return changes

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages, sequences and requests agree."""
        self._scheduler.check_integrity()
        known = {sequence.request_id for sequence in self._scheduler.sequences()}
        if known != set(self._live):
            raise AssertionError("the scheduler's sequences are not those of the requests")
