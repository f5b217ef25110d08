"""Grammars in llama.cpp's GBNF to llguidance's form of Lark.

Source of the syntax: grammars/README.md of llama.cpp. Rules that do not lead back to themselves
become terminals, so a grammar without recursion is one regular expression and means exactly what it
says. In one with recursion a terminal takes as many characters as it can, as a lexer does.
"""

import json
import re
from dataclasses import dataclass, field
from typing import NoReturn

from runtime.errors import InvalidRequest
from runtime.grammar.fixed_text import FixedText, expect_short_text

MAX_RULES = 500
MAX_DEPTH = 50
"""Parentheses inside each other."""
MAX_REPEATS = 10_000

NAME = re.compile(r"[A-Za-z0-9_-]+")
SPACE = re.compile(r"(?:[ \t]|#[^\n]*)*")
ANY_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
REPEAT = re.compile(r"\{\s*(\d{1,5})\s*(?:(,)\s*(\d{1,5})?\s*)?\}")
COUNT = re.compile(r"\{(\d+)\}")
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
SIMPLE_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", **{c: c for c in '"\\[]^-'}}


@dataclass(slots=True)
class _Rule:
    """The right side of a rule in pieces: Lark's text, or a name of another rule in a tuple."""

    pieces: list[str | tuple[str]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """The rules that it names."""
        return {piece[0] for piece in self.pieces if isinstance(piece, tuple)}


def lark_of(text: str, field_name: str) -> str:
    """Return the same grammar in Lark. Raises InvalidRequest saying where it is wrong."""
    rules = _Reader(text, field_name).rules()
    flat = _flat(rules)
    lengths: dict[str, int] = {}
    for name in flat:
        lengths[name] = _fixed_length(rules[name], lengths)
        expect_short_text(lengths[name], field_name)
    terminals = set(flat)
    written = {
        name: f"{'T' if name in terminals else 'r'}{number}" for number, name in enumerate(rules)
    }
    lines = [f"start: {written['root']}"]
    for name, rule in rules.items():
        body = "".join(
            written[piece[0]] if isinstance(piece, tuple) else piece for piece in rule.pieces
        )
        lines.append(f"{written[name]}: {body}")
    return "\n".join(lines) + "\n"


def _flat(rules: dict[str, _Rule]) -> list[str]:
    """The rules that lead to no rule twice in a chain, each after those that it names."""
    waits_for = {name: set(rule.names) for name, rule in rules.items()}
    named_by: dict[str, list[str]] = {name: [] for name in rules}
    for name, others in waits_for.items():
        for other in others:
            named_by[other].append(name)
    flat = [name for name, others in waits_for.items() if not others]
    for name in flat:  # it grows meanwhile
        for other in named_by[name]:
            waits_for[other].discard(name)
            if not waits_for[other]:
                flat.append(other)
    return flat


def _fixed_length(rule: _Rule, lengths: dict[str, int]) -> int:
    """Characters of a rule's longest fixed text, by those of the rules that it names."""
    fixed = FixedText()
    for piece in rule.pieces:
        if isinstance(piece, tuple):
            fixed.item(lengths[piece[0]])
        elif piece == "(":
            fixed.open()
        elif piece == ")":
            fixed.close()
        elif piece == " | ":
            fixed.alternative()
        elif piece[0] == '"':
            fixed.item(len(json.loads(piece)))
        elif piece[0] == "/":
            fixed.item(1)
        elif count := COUNT.fullmatch(piece):
            fixed.repeat(int(count[1]))
    return fixed.length


class _Reader:
    """Reads a text once. Owned by one call."""

    def __init__(self, text: str, field_name: str) -> None:
        self._text = text
        self._at = 0
        self._field = field_name

    def rules(self) -> dict[str, _Rule]:
        """Every rule by its name, all names known and one of them root."""
        rules: dict[str, _Rule] = {}
        self._skip(ANY_SPACE)
        while self._at < len(self._text):
            name = self._name()
            self._skip(SPACE)
            if not self._takes("::="):
                self._refuse("::= is missing")
            if name in rules or len(rules) == MAX_RULES:
                self._refuse(f"{name} stands twice" if name in rules else "it has too many rules")
            self._skip(ANY_SPACE)
            rules[name] = rule = _Rule()
            self._alternatives(rule, 0)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._refuse("this does not belong here")
            self._skip(ANY_SPACE)
        for rule in rules.values():
            for name in rule.names - set(rules):
                self._refuse(f"there is no rule {name}")
        if "root" not in rules:
            self._refuse("there is no rule root")
        return rules

    def _alternatives(self, rule: _Rule, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._refuse("it is nested too deeply")
        while True:
            if not self._sequence(rule, depth):
                rule.pieces.append('""')
            self._skip(ANY_SPACE if depth else SPACE)
            if not self._takes("|"):
                return
            rule.pieces.append(" | ")
            self._skip(ANY_SPACE)

    def _sequence(self, rule: _Rule, depth: int) -> bool:
        """Read items up to their end; False if there is none."""
        found = False
        while self._item(rule, depth):
            found = True
            if repeat := self._repeat():
                rule.pieces.append(repeat)
            rule.pieces.append(" ")
            self._skip(ANY_SPACE if depth else SPACE)
        return found

    def _item(self, rule: _Rule, depth: int) -> bool:
        first = self._text[self._at : self._at + 1]
        if first == '"':
            rule.pieces.append(self._literal())
        elif first == "[":
            rule.pieces.append(self._class())
        elif first == "(":
            self._at += 1
            self._skip(ANY_SPACE)
            rule.pieces.append("(")
            self._alternatives(rule, depth + 1)
            self._skip(ANY_SPACE)
            if not self._takes(")"):
                self._refuse(") is missing")
            rule.pieces.append(")")
        elif first == ".":
            self._at += 1
            rule.pieces.append(r"/(?s:.)/")
        elif NAME.match(first):
            rule.pieces.append((self._name(),))
        else:
            return False
        return True

    def _repeat(self) -> str:
        for sign in "*+?":
            if self._takes(sign):
                return sign
        if (found := REPEAT.match(self._text, self._at)) is None:
            return ""
        self._at = found.end()
        least, comma, most = found.groups()
        if max(int(least), int(most or 0)) > MAX_REPEATS:
            self._refuse(f"nothing may be repeated more than {MAX_REPEATS} times")
        return f"{{{least},{most or ''}}}" if comma else f"{{{least}}}"

    def _literal(self) -> str:
        self._at += 1
        letters = []
        while not self._takes('"'):
            letters.append(self._character())
        return json.dumps("".join(letters), ensure_ascii=False)

    def _class(self) -> str:
        """A class of characters, as a regular expression between slashes."""
        self._at += 1
        written = "^" if self._takes("^") else ""
        empty = True
        while not self._takes("]"):
            first = last = self._character()
            if self._text[self._at : self._at + 1] == "-" and (
                self._text[self._at + 1 : self._at + 2] not in ("]", "")
            ):
                self._at += 1
                last = self._character()
            if last < first:
                self._refuse("a range ends before it begins")
            written += _code(first) + (f"-{_code(last)}" if last != first else "")
            empty = False
        if empty:
            self._refuse("a class of characters is empty")
        return f"/[{written}]/"

    def _character(self) -> str:
        """One character of a literal or a class."""
        letter = self._text[self._at : self._at + 1]
        if letter == "" or letter in "\r\n":
            self._refuse("a text or a class does not end")
        self._at += 1
        if letter != "\\":
            return letter
        escape = self._text[self._at : self._at + 1]
        self._at += 1
        if escape in SIMPLE_ESCAPES:
            return SIMPLE_ESCAPES[escape]
        count = HEX_DIGITS.get(escape, 0)
        digits = self._text[self._at : self._at + count]
        if count == 0 or re.fullmatch(f"[0-9A-Fa-f]{{{count}}}", digits) is None:
            self._refuse("this escape is not known")
        self._at += count
        number = int(digits, 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            self._refuse("this is no character")
        return chr(number)

    def _name(self) -> str:
        if (found := NAME.match(self._text, self._at)) is None:
            self._refuse("a rule's name is missing")
        self._at = found.end()
        return found.group()

    def _takes(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _skip(self, space: re.Pattern[str]) -> None:
        if (found := space.match(self._text, self._at)) is not None:
            self._at = found.end()

    def _refuse(self, problem: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise InvalidRequest(
            f"{self._field} is no GBNF that can be read: {problem}, in line {line}",
            field=self._field,
        )


def _code(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):x}}}"
