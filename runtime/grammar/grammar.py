"""A grammar as a request gives it, in the form that llguidance reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json
from runtime.grammar.fixed_text import expect_short_pattern
from runtime.grammar.gbnf import lark_of
from runtime.grammar.schema import checked_schema
from runtime.tokenizer import well_formed

MAX_CHARACTERS = 1 << 16
"""Of a grammar as it was sent."""
WHITE_SPACE = r" |\n[ \t]{0,20}"
"""Between JSON tokens, at most once each: a model could write blanks forever."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """The grammar of an answer, checked as far as possible without a model. Immutable."""

    source: str
    """As llguidance reads it."""
    field: str
    """The request's field that it comes from."""

    @classmethod
    def json_schema(cls, schema: Any, *, field: str, white_space: bool = True) -> Self:
        """JSON that a schema allows, its properties in the schema's order.

        Raises InvalidRequest naming a keyword that is not supported, and for a whole number of more
        than 64 bits.
        """
        from llguidance import LLMatcher

        expect_short(finite_json(schema).decode(), field)
        options = {
            "whitespace_flexible": white_space,
            "whitespace_pattern": WHITE_SPACE if white_space else None,
            "lenient": False,
            "coerce_one_of": False,
        }
        checked = checked_schema(schema, field)
        if checked is False:
            raise InvalidRequest(f"{field} is a schema that no JSON fits", field=field)
        checked = {} if checked is True else checked
        try:
            source = LLMatcher.grammar_from_json_schema(checked, overrides=options)  # type: ignore[arg-type]
        except ValueError:  # what is no JSON for Rust
            raise InvalidRequest(
                f"{field} has a whole number of more than 64 bits; leave it out", field=field
            ) from None
        return cls(source, field)

    @classmethod
    def json_object(cls, *, field: str) -> Self:
        """Any JSON object."""
        return cls.json_schema({"type": "object"}, field=field)

    @classmethod
    def regex(cls, pattern: str, *, field: str) -> Self:
        """Return the grammar of text matching a regular expression in Rust's syntax."""
        from llguidance import LLMatcher

        expect_short_pattern(expect_short(pattern, field), field)
        return cls(LLMatcher.grammar_from_regex(pattern), field)

    @classmethod
    def choice(cls, texts: Sequence[str], *, field: str) -> Self:
        """Return the grammar of one of some texts."""
        for text in texts:
            expect_short(text, field)
        if not texts or not all(texts):
            raise InvalidRequest(
                f"{field} must hold at least one text, and none that is empty", field=field
            )
        return cls.regex("|".join(f"(?:{quoted(text)})" for text in texts), field=field)

    @classmethod
    def gbnf(cls, text: str, *, field: str) -> Self:
        """Return the grammar of the rule root in llama.cpp's GBNF."""
        from llguidance import LLMatcher

        return cls(LLMatcher.grammar_from_lark(lark_of(expect_short(text, field), field)), field)


def expect_short(text: str, field: str) -> str:
    """Return the text. Raises InvalidRequest if it is too long."""
    if not text.isascii() and text != well_formed(text):
        raise InvalidRequest(f"{field} holds half of a surrogate pair", field=field)
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"{field} has more than {MAX_CHARACTERS} characters; make it shorter", field=field
        )
    return text


def quoted(text: str) -> str:
    """A text as a regular expression that matches it alone."""
    return "".join(
        letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):x}}}"
        for letter in text
    )
