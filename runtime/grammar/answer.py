"""The grammar of a chat's whole answer: free reasoning, then a form, calls or a text.

Marks that are control tokens of the model stand as tokens in it, all others as text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from runtime.chat.answer_formats import ReasoningFormat, ToolFormat
from runtime.chat.tool_call_writers import (
    ARGUMENTS,
    INDEX,
    IS_TEXT,
    KEY,
    NAME,
    BracedCalls,
    TaggedCalls,
    Written,
    generic_calls,
)
from runtime.grammar.braced_values import BracedValues
from runtime.grammar.grammar import Grammar, quoted
from runtime.grammar.tagged_values import NoTaggedValue, TaggedValue, tagged_values
from runtime.tokenizer import Tokenizer

MAX_CALLS = 8
"""Calls that follow each other where a grammar makes them: a weak model would repeat itself until
its tokens are spent. Agents' answers rarely have more than a handful."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
"""Names that every format can write unchanged."""
GAP = r"GAP: /[ \t\r\n]{0,8}/"
"""White space after reasoning."""
PLACES = re.compile(f"({re.escape(NAME)}|{re.escape(ARGUMENTS)}|{re.escape(INDEX)})")
SLASH = re.compile(r"\\.|/|\n", re.DOTALL)
"""A slash or a line end in a regular expression, or anything escaped."""
NUMBER = "NUMBER: /[0-9]{1,2}/"
TEXT = "TEXT: /(?s:.*)/"
PLAIN_TEXT = r"PLAIN: /([^{\[ \t\r\n](?s:.*))?/"
"""A text that does not begin as JSON does."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """How an answer may begin with reasoning. Immutable."""

    format: ReasoningFormat
    begun: bool
    """Whether the prompt ends inside reasoning."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Which calls an answer may have, and how they are written. Immutable."""

    schemas: Mapping[str, Mapping[str, Any]]
    """The JSON schema of each tool's arguments, by the tool's name."""
    written: Written
    format: ToolFormat
    forced: bool
    """Whether the answer is calls alone."""
    parallel: bool
    """Whether there may be several."""


def fitting_calls(written: Written | None, schemas: Mapping[str, Mapping[str, Any]]) -> Written:
    """Return how these tools' calls can be written: generically if the model's own form cannot."""
    if written is None or unfitting(written, schemas) is not None:
        return generic_calls()
    return written


def unfitting(written: Written | None, schemas: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what these tools' calls cannot be written for in a form, or None if they can."""
    if written is None:
        return "the form of its calls"
    if not all(map(PLAIN_NAME.fullmatch, schemas)):
        return "the name of a tool"
    if isinstance(written, TaggedCalls):
        try:
            for schema in schemas.values():
                tagged_values(schema)
        except NoTaggedValue as found:
            return str(found)
    if isinstance(written, BracedCalls):
        try:
            for schema in schemas.values():
                BracedValues(_NoRules(), written.quote, schema).entries()
        except NoTaggedValue as found:
            return str(found)
    return None


def answer_grammar(
    tokenizer: Tokenizer,
    *,
    field: str,
    thinking: Thinking | None = None,
    form: Grammar | None = None,
    calls: Calls | None = None,
) -> Grammar:
    """Return the grammar of an answer of a model with this tokenizer.

    `field` is the request's field that asks for it. Raises InvalidRequest naming a keyword of a
    tool's schema that is not supported.
    """
    return _Builder(tokenizer).grammar(field, thinking, form, calls)


@dataclass(slots=True)
class _Builder:
    """Rules in Lark and the grammars that they name. Owned by one call."""

    tokenizer: Tokenizer
    rules: dict[str, None] = field(default_factory=dict)
    grammars: list[dict[str, Any]] = field(default_factory=list)

    def grammar(
        self, field: str, thinking: Thinking | None, form: Grammar | None, calls: Calls | None
    ) -> Grammar:
        heads = self._heads(thinking)
        bodies = []
        if form is not None:
            bodies.append(f"{heads} {self._subgrammar(form)}")
        if calls is not None:
            made = self._calls(calls)
            if calls.forced or form is not None or heads:
                bodies.append(made)
                if not calls.forced and form is None:
                    bodies.append(f"{heads} {self._rule(TEXT)}")
            else:
                bodies.append(self._among_text(calls, made))
        start = f"start: {self._thought(thinking)} ({' | '.join(bodies)})"
        lark = "\n".join((start, *self.rules))
        return Grammar(json.dumps({"grammars": [{"lark_grammar": lark}, *self.grammars]}), field)

    def _thought(self, thinking: Thinking | None) -> str:
        if thinking is None:
            return ""
        format = thinking.format
        ended = f"{self._up_to(format.end)} {self._rule(GAP)} {self.literal(format.joint)}"
        return ended if thinking.begun else f"({self.literal(format.start)} {ended})?"

    def _heads(self, thinking: Thinking | None) -> str:
        """Return the prefix of an answer that is no call, if the model's tokens have one."""
        heads = thinking.format.heads if thinking is not None else ()
        known = [head for head in heads if isinstance(self._parts(head)[0], int)]
        return f"({' | '.join(map(self.literal, known))})" if known else ""

    def _among_text(self, calls: Calls, made: str) -> str:
        """Return the rule of text with calls, each after a mark used for nothing else."""
        if not calls.format.start:
            return f"({made} | {self._rule(PLAIN_TEXT)})"
        written = calls.written
        opening = written.before + written.call
        marks = (*calls.format.start, *calls.format.sections)
        mark = max((each for each in marks if opening.startswith(each)), key=len)
        rest = self._calls(calls, opened_by=mark)
        return f"({self._up_to(mark)} {rest})* {self._rule(TEXT)}"

    def _calls(self, calls: Calls, opened_by: str = "") -> str:
        """Calls that follow each other, without the mark that has been written already."""
        written = calls.written
        bodies = [self._call(written, name, schema) for name, schema in calls.schemas.items()]
        first = [_opened([written.before, *body], opened_by) for body in bodies]
        expression = self._one_of("first", first)
        if calls.parallel and written.between is not None:
            again = self._one_of("further", [[written.between, *body] for body in bodies])
            expression += f" {again}{{0,{MAX_CALLS - 1}}}"
        return f"{expression} {self.literal(written.after)}"

    def _call(self, written: Written, name: str, schema: Mapping[str, Any]) -> "list[_Piece]":
        """The pieces of a call of one tool."""
        if isinstance(written, TaggedCalls):
            return self._tagged_call(written, name, schema)
        if isinstance(written, BracedCalls):
            entries = BracedValues(self, written.quote, schema).entries()
            return [written.call.replace(NAME, name), _Expression(entries), written.end]
        shown = json.dumps(name, ensure_ascii=False)[1:-1]
        pieces: list[_Piece] = []
        for part in PLACES.split(written.call):
            if part == ARGUMENTS:
                arguments = Grammar.json_schema(schema, field=f"tools[{name}].parameters")
                pieces.append(_Expression(self._subgrammar(arguments)))
            elif part == INDEX:
                pieces.append(_Expression(self._rule(NUMBER)))
            else:
                pieces.append(shown if part == NAME else part)
        return pieces

    def _tagged_call(
        self, written: TaggedCalls, name: str, schema: Mapping[str, Any]
    ) -> "list[_Piece]":
        pieces: list[_Piece] = [written.call.replace(NAME, name)]
        for key, value in tagged_values(schema).items():
            argument: list[_Piece] = [
                written.argument.replace(KEY, key).replace(IS_TEXT, str(value.is_text).lower()),
                _Expression(self.value(value, written.argument_end)),
                written.gap,
            ]
            if value.required:
                pieces += argument
            else:
                pieces.append(_Expression(f"({self._expression(argument)})?"))
        return [*pieces, written.end]

    def value(self, value: TaggedValue, end: str) -> str:
        """Return the rule of a value in tags, including the end tag."""
        if value.texts is not None:
            return f"({' | '.join(map(self.literal, value.texts))}) {self.literal(end)}"
        if value.patterns:
            return self._matching(value.patterns, end)
        if value.schema is None:
            return self._up_to(end)
        inner = Grammar.json_schema(value.schema, field="tools")
        return f"{self._subgrammar(inner)} {self.literal(end)}"

    def rule(self, name: str, body: str) -> str:
        """Return the name of a new rule."""
        name = f"{name}{len(self.rules)}"
        self.rules[f"{name}: {body}"] = None
        return name

    def _matching(self, patterns: Sequence[str], end: str) -> str:
        """Return the rule of a text that matches patterns, with the end tag, which it has not.

        Line ends next to tags are none of a value's, so it neither begins nor ends with one.
        """
        excluded = (rf"(?s:.*){quoted(end)}(?s:.*)", r"\n(?s:.*)", r"(?s:.*)\n")
        terms = [_regex(pattern) for pattern in patterns]
        text = " & ".join([*terms, *(f"~{_regex(pattern)}" for pattern in excluded)])
        name = f"VALUE{len(self.rules)}"
        if all(isinstance(part, str) for part in self._parts(end)):
            # One terminal, lest a text go on where the tag begins.
            self.rules[f"{name}: ({text}) {self.literal(end)}"] = None
            return name
        self.rules[f"{name}: {text}"] = None
        return f"{name} {self.literal(end)}"

    def _one_of(self, name: str, alternatives: "list[list[_Piece]]") -> str:
        """The name of a rule that is one of these."""
        body = " | ".join(map(self._expression, alternatives))
        name = f"{name}{len(self.rules)}"
        self.rules[f"{name}: {body}"] = None
        return name

    def _expression(self, pieces: "list[_Piece]") -> str:
        """Return pieces in Lark, with consecutive texts joined."""
        written: list[str] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
            else:
                written += [self.literal(text), piece.lark]
                text = ""
        return " ".join([*written, self.literal(text)])

    def _subgrammar(self, grammar: Grammar) -> str:
        """Return the name of another grammar within a rule."""
        (only,) = json.loads(grammar.source)["grammars"]
        name = f"grammar{len(self.grammars)}"
        self.grammars.append({**only, "name": name})
        return f"@{name}"

    def _up_to(self, end: str) -> str:
        """Any text up to a mark, with the mark."""
        parts = self._parts(end)
        if all(isinstance(part, str) for part in parts):
            name = f"up_to{len(self.rules)}"
            self.rules[f"{name}[lazy]: /(?s:.*){quoted(end)}/"] = None
            return name
        return f"{self._rule(TEXT)} {self.literal(end)}"

    def literal(self, text: str) -> str:
        """Return a text in Lark, control tokens as such."""
        return " ".join(
            f"<[{part}]>" if isinstance(part, int) else json.dumps(part, ensure_ascii=False)
            for part in self._parts(text)
        )

    def _parts(self, text: str) -> list[int | str]:
        return self.tokenizer.structure_parts(text)

    def _rule(self, rule: str) -> str:
        """The name of a rule, which is written once."""
        self.rules[rule] = None
        return rule.partition(":")[0]


class _NoRules:
    """Rules of a grammar that nobody needs: whether a schema can be expressed. Immutable."""

    def literal(self, text: str) -> str:
        return text

    def value(self, value: TaggedValue, end: str) -> str:
        return end

    def rule(self, name: str, body: str) -> str:
        return name


@dataclass(frozen=True, slots=True)
class _Expression:
    """A part of a rule in Lark, other than a literal. Immutable."""

    lark: str


_Piece: TypeAlias = str | _Expression


def _regex(pattern: str) -> str:
    """Return a regular expression in Lark, between slashes."""
    return f"/{SLASH.sub(_escaped, pattern)}/"


def _escaped(found: re.Match[str]) -> str:
    return {"/": r"\/", "\n": r"\n"}.get(found[0], found[0])


def _opened(pieces: list[_Piece], by: str) -> list[_Piece]:
    """A call without the mark that opens it."""
    text = ""
    for place, piece in enumerate(pieces):
        if not isinstance(piece, str):
            return [text.removeprefix(by), *pieces[place:]]
        text += piece
    return [text.removeprefix(by)]
