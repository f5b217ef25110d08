"""The simulation: chats ask, a router chooses, replicas compute, event by event in time."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import TypeAlias

from pipelines.simulation.chats import Chat, Trace
from pipelines.simulation.replica import NS_PER_SECOND, Question, Replica
from pipelines.simulation.routers import Router
from pipelines.simulation.step_times import StepTimes
from runtime.errors import InvalidTrace
from runtime.page_changes import Changes
from runtime.sequence import Sequence as Tokens
from runtime.settings import CPU_CACHE_TOKENS, Settings

NS_PER_MS = NS_PER_SECOND // 1000
EVENT_DELAY_MS = 20

Text: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that happened. Times are in nanoseconds since the trace's beginning."""

    questions: tuple[Question, ...]
    """In the order in which they ended."""
    replicas: tuple[Replica, ...]
    ended_ns: int
    """When the last answer was complete."""


class Fleet:
    """Replicas behind one router. Owned by one thread.

    Events are handled in the order of their times, equal times in the order in which they were
    planned, so that a simulation has one outcome.
    """

    def __init__(
        self,
        replicas: int,
        router: Router,
        settings: Settings,
        times: StepTimes,
        *,
        event_delay_ms: int = EVENT_DELAY_MS,
        checked: bool = False,
    ) -> None:
        """event_delay_ms: from the end of a step to the router's knowledge of its pages.

        checked: verify the scheduler's and the page manager's invariants after each step.
        """
        self._replicas = tuple(Replica(settings, times) for _ in range(replicas))
        self._router = router
        self._context = settings.cache_tokens or CPU_CACHE_TOKENS
        self._delay_ns = event_delay_ms * NS_PER_MS
        self._checked = checked
        self._loads = [0] * replicas
        self._planned: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()
        self._request_ids = count(1)
        self._ended: list[Question] = []

    def play(self, chats: Trace) -> Outcome:
        """Simulate a trace to the end of its last answer.

        Raises InvalidTrace for a chat that is longer than a replica's KV cache.
        """
        for number, chat in enumerate(chats):
            if chat.tokens > self._context:
                raise InvalidTrace(
                    f"chat {number + 1} has {chat.tokens} tokens and a replica's KV cache "
                    f"{self._context}; raise --cache-tokens or shorten the chat"
                )
        self._chats = chats
        self._texts = _texts(chats)
        for number, chat in enumerate(chats):
            self._plan(chat.start_ms * NS_PER_MS, partial(self._ask, number, 0))
        now_ns = 0
        while self._planned:
            now_ns, _, happen = heapq.heappop(self._planned)
            happen(now_ns)
        ended_ns = max(question.ended_ns for question in self._ended)
        return Outcome(tuple(self._ended), self._replicas, ended_ns)

    def _plan(self, at_ns: int, happen: Callable[[int], None]) -> None:
        heapq.heappush(self._planned, (at_ns, next(self._order), happen))

    def _ask(self, number: int, turn: int, now_ns: int) -> None:
        """A chat asks its next question."""
        chat, (system, own) = self._chats[number], self._texts[number]
        before = sum(each.question + each.answer for each in chat.turns[:turn])
        asked = before + chat.turns[turn].question
        question = Question(
            chat=number,
            turn=turn,
            system=chat.system,
            sequence=Tokens(next(self._request_ids), [*system, *own[:asked]]),
            answer=own[asked : asked + chat.turns[turn].answer],
            asked_ns=now_ns,
        )
        question.replica = chosen = self._router.choose(question, self._loads)
        self._loads[chosen] += 1
        self._replicas[chosen].submit(question)
        if not self._replicas[chosen].in_step:
            self._begin(chosen, now_ns)

    def _begin(self, replica: int, now_ns: int) -> None:
        """A replica begins its next step, if it has one."""
        took = self._replicas[replica].begin_step()
        if took is not None:
            self._plan(now_ns + took, partial(self._end, replica))

    def _end(self, replica: int, now_ns: int) -> None:
        """A replica ends a step, and begins the next one."""
        for question in self._replicas[replica].end_step(now_ns):
            self._loads[replica] -= 1
            self._ended.append(question)
            chat, turn = self._chats[question.chat], question.turn + 1
            if turn < len(chat.turns):
                at_ns = now_ns + chat.turns[turn].think_ms * NS_PER_MS
                self._plan(at_ns, partial(self._ask, question.chat, turn))
        if changes := self._replicas[replica].take_changes():
            self._plan(now_ns + self._delay_ns, partial(self._learn, replica, changes))
        if self._checked:
            self._replicas[replica].check_integrity()
        self._begin(replica, now_ns)

    def _learn(self, replica: int, changes: Changes, _: int) -> None:
        self._router.learn(replica, changes)


def _texts(chats: Sequence[Chat]) -> list[tuple[Text, Text]]:
    """Return each chat's system prompt and all that follows, as token ids that nothing else has."""
    fresh = count()
    systems: dict[str, Text] = {}
    texts = []
    for chat in chats:
        if chat.system not in systems:
            systems[chat.system] = tuple(islice(fresh, chat.system_tokens))
        own = tuple(islice(fresh, chat.tokens - chat.system_tokens))
        texts.append((systems[chat.system], own))
    return texts
