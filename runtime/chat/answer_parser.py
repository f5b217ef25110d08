"""Splits an answer, as it arrives, into reasoning, text and tool calls."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import TypeAlias

from runtime.chat.answer_formats import ReasoningFormat, ToolFormat
from runtime.chat.begun_call import LONGEST_HEAD, BegunCall, BegunTaggedCall, begun_call
from runtime.chat.json_place import JsonPlace
from runtime.chat.tool_call_parsers import Call, Tools

BETWEEN_OBJECTS = ",;"
"""Separators between calls that are plain JSON, besides white space."""


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer's text. Immutable."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of reasoning. Immutable."""

    text: str


Part: TypeAlias = Said | Thought | Call


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How one answer is to be read. Immutable."""

    reasoning: ReasoningFormat | None = None
    """None if reasoning stays part of the text."""
    tools: ToolFormat | None = None
    """None where calls stay text."""
    known: Tools | None = None
    """The tools that there are."""
    thinks_at_first: bool = False
    """Whether the prompt ends inside reasoning."""

    @property
    def marks(self) -> frozenset[str]:
        """All marks that the answer may have."""
        found: set[str] = set()
        if self.reasoning is not None:
            found |= {self.reasoning.start, self.reasoning.end, *self.reasoning.dropped}
        if self.tools is not None:
            tools = self.tools
            found |= {*tools.start, *tools.end, *tools.opening, *tools.sections, *tools.inner}
        return frozenset(found)


class _State(Enum):
    BEGIN = auto()
    """Before the first letter: the one place where some marks are ones."""
    TEXT = auto()
    THOUGHT = auto()
    CALL = auto()


class AnswerParser:
    """Takes an answer's text in pieces and returns its parts. Owned by one thread.

    How the text is cut into pieces only changes how texts are divided. A call is returned when it
    is complete; a malformed one is returned as text. White space around reasoning and calls is
    dropped.
    """

    def __init__(self, form: AnswerForm) -> None:
        self._form = form
        reasoning, tools = form.reasoning, form.tools
        thinking = (reasoning.start,) if reasoning else ()
        self._sections = frozenset(tools.sections if tools else ())
        self._starts = frozenset(tools.start + tools.opening if tools else ())
        dropped = reasoning.addressed(form.known or ()) | {*reasoning.dropped} if reasoning else ()
        self._dropped = frozenset(dropped)
        everywhere = self._sections | self._dropped | set(tools.start if tools else ())
        self._at_begin = _Marks({*everywhere, *self._starts, *thinking})
        self._in_text = _Marks(
            {*everywhere, *(thinking if reasoning and reasoning.anywhere else ())}
        )
        self._in_thought = _Marks({reasoning.end} if reasoning else ())
        self._in_call = _Marks(_ends(tools) | self._dropped if tools else ())
        self._bare = tools is not None and not tools.start
        self._state = _State.THOUGHT if form.thinks_at_first and reasoning else _State.BEGIN
        self._text = ""
        """Text that is not classified yet."""
        self._held = ""
        """White space and section marks, which are text only if no call or reasoning follows."""
        self._fresh = True
        """Whether this reasoning has produced no output yet."""
        self._trims = False
        """Whether reasoning or a call came last: white space is dropped."""
        self._called = False
        """Whether it was a call."""
        self._call = _OpenCall("", in_json=False)

    @property
    def begun(self) -> BegunCall | BegunTaggedCall | None:
        """The call that the text so far has begun and not completed, once its name is known."""
        return self._call.begun if self._state is _State.CALL else None

    @property
    def thinking(self) -> bool:
        """Whether the text is inside reasoning."""
        return self._state is _State.THOUGHT

    def feed(self, text: str) -> list[Part]:
        """Add text and return the parts it completes."""
        self._text += text
        return list(_joined(self._steps(final=False)))

    def flush(self) -> list[Part]:
        """Return the rest at the end."""
        return list(_joined(self._last()))

    def _last(self) -> Iterator[Part]:
        yield from self._steps(final=True)
        while self._state is _State.CALL:
            ended = self._form.tools is not None and self._form.tools.complete
            yield from self._close("", accepted=ended)
            yield from self._steps(final=True)
        if not self._called and self._state is not _State.THOUGHT and self._held:
            yield Said(self._held)
        self._held = ""

    def _steps(self, *, final: bool) -> Iterator[Part]:
        before = None
        while self._text and (self._state, len(self._text)) != before:
            before = (self._state, len(self._text))
            match self._state:
                case _State.BEGIN:
                    yield from self._begin(final=final)
                case _State.TEXT:
                    yield from self._say(final=final)
                case _State.THOUGHT:
                    yield from self._think(final=final)
                case _State.CALL:
                    yield from self._read(final=final)

    def _begin(self, *, final: bool) -> Iterator[Part]:
        between = BETWEEN_OBJECTS if self._bare and self._called else ""
        rest = self._text.lstrip(f" \t\r\n{between}")
        if not self._trims:
            self._held += self._text[: len(self._text) - len(rest)]
        self._text = rest
        if not rest:
            return
        if self._bare and rest[0] in "{[":
            self._open("")
            return
        place, mark = self._at_begin.first(rest, final=final)
        if place == 0 and not mark:
            return
        if place == 0:
            self._text = rest[len(mark) :]
            yield from self._take(mark)
        else:
            self._state = _State.TEXT

    def _say(self, *, final: bool) -> Iterator[Part]:
        place, mark = self._in_text.first(self._text, final=final)
        yield from self._said(self._text[:place])
        self._text = self._text[place + len(mark) :]
        if mark:
            yield from self._take(mark)

    def _said(self, text: str) -> Iterator[Part]:
        """Yield text, holding back white space at its end if a call may follow."""
        if self._trims:
            text = text.lstrip()
        if self._form.tools is not None:
            shown = text.rstrip()
            text, rest = (self._held + shown if shown else ""), text[len(shown) :]
            self._held = ("" if shown else self._held) + rest
        elif text:
            text, self._held = self._held + text, ""
        if text:
            self._trims = self._called = False
            yield Said(text)

    def _take(self, mark: str) -> Iterator[Part]:
        """Continue after a mark."""
        if mark in self._starts:
            self._open(mark)
        elif mark in self._sections:
            self._held += "" if self._called else mark
        elif mark in self._dropped:
            self._state = _State.BEGIN
        else:
            self._held = ""
            self._fresh = True
            self._state = _State.THOUGHT
        yield from ()

    def _think(self, *, final: bool) -> Iterator[Part]:
        place, mark = self._in_thought.first(self._text, final=final)
        text, self._text = self._text[:place], self._text[place + len(mark) :]
        if self._fresh:
            text = text.lstrip()
        shown = text.rstrip()
        if shown:
            yield Thought(self._held + shown)
            self._fresh, self._held = False, ""
        if not self._fresh:
            self._held += text[len(shown) :]
        if mark:
            self._held, self._trims = "", True
            self._state = _State.BEGIN

    def _open(self, mark: str) -> None:
        tools = self._form.tools
        self._call = _OpenCall(mark, in_json=self._bare or (tools is not None and tools.in_json))
        self._state = _State.CALL

    def _read(self, *, final: bool) -> Iterator[Part]:
        if self._bare:
            end = self._call.place.value_end(self._text)
            self._add_to_call(self._text[:end])
            self._text = self._text[end:]
            if self._call.place.depth == 0:
                yield from self._close("", accepted=True)
            return
        place, mark = self._in_call.first(self._text, final=final)
        self._add_to_call(self._text[:place])
        self._text = self._text[place + len(mark) :]
        if not mark:
            return
        if self._call.place.in_text:
            self._add_to_call(mark)
            return
        tools = self._form.tools
        if tools is not None and mark not in tools.end:
            self._text = mark + self._text
            mark = ""
        yield from self._close(mark, accepted=True)

    def _add_to_call(self, text: str) -> None:
        call, tools = self._call, self._form.tools
        has_no_head = call.length >= LONGEST_HEAD
        call.add(text)
        if call.begun is not None:
            call.begun.add(text)
        elif tools is not None and not has_no_head:
            call.begun = begun_call(tools.read, call.body(), self._form.known or {})

    def _close(self, mark: str, *, accepted: bool) -> Iterator[Part]:
        """End a call: give it, or the text that it is."""
        form, opened = self._form, self._call
        known = form.known or {}
        try:
            found = form.tools.read(opened.body(), known) if form.tools and accepted else None
        except ValueError:  # a number that is not finite, such as 1e999
            found = None
        if found:
            if opened.begun is not None:
                found = [opened.begun.completed(found[0]), *found[1:]]
            self._held, self._trims, self._called = "", True, True
            # Another may follow, or the end of a section, as in the beginning.
            self._state = _State.BEGIN if self._bare else _State.TEXT
            yield from found
            return
        self._state = _State.TEXT
        yield from self._said(opened.mark + opened.body() + mark)


class _OpenCall:
    """The text of a call that has not ended. Owned by its parser."""

    def __init__(self, mark: str, *, in_json: bool) -> None:
        self.mark = mark
        self.place = JsonPlace()
        """The place behind the text so far, if it is JSON."""
        self.begun: BegunCall | BegunTaggedCall | None = None
        """Its first call, once its name is complete."""
        self.length = 0
        self._in_json = in_json
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        """Add to the call."""
        self._parts.append(text)
        self.length += len(text)
        if self._in_json:
            self.place.move(text)

    def body(self) -> str:
        """The text after the mark."""
        return "".join(self._parts)


class _Marks:
    """Finds the first of several marks in a text, the longest of those that begin there.

    Immutable.
    """

    def __init__(self, marks: Sequence[str] | set[str] | frozenset[str] | tuple[str, ...]) -> None:
        self._marks = tuple(sorted(marks, key=lambda mark: (-len(mark), mark)))
        self._pattern = _pattern(self._marks)
        self._longest = len(self._marks[0]) if self._marks else 0

    def first(self, text: str, *, final: bool) -> tuple[int, str]:
        """Return the end of the text that is certainly no mark, and the complete mark there or "".

        final: no more text follows.
        """
        found = self._pattern.search(text) if self._pattern else None
        end = len(text) if found is None else found.start()
        if not final:
            for place in range(max(0, len(text) - self._longest + 1), len(text)):
                if place > end:
                    break
                begun = text[place:]
                if any(len(mark) > len(begun) and mark.startswith(begun) for mark in self._marks):
                    return place, ""
        return end, "" if found is None else found.group()


@lru_cache(maxsize=64)
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, marks))) if marks else None


def _ends(tools: ToolFormat) -> frozenset[str]:
    """Return what ends a call: its end marks, or the next call's start marks."""
    return frozenset(tools.end or (tools.start + tools.sections))


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Yield the parts, with consecutive texts joined."""
    last: Part | None = None
    for part in parts:
        match last, part:
            case Said(before), Said(after):
                last = Said(before + after)
            case Thought(before), Thought(after):
                last = Thought(before + after)
            case _:
                if last is not None:
                    yield last
                last = part
    if last is not None:
        yield last
