"""Constraints of an answer: a JSON schema, a regular expression, a choice or a grammar."""

from runtime.grammar.answer import Calls, Thinking, answer_grammar, fitting_calls, unfitting
from runtime.grammar.compiler import GrammarCompiler
from runtime.grammar.grammar import Grammar
from runtime.grammar.matcher import GrammarFailed, Matcher
from runtime.grammar.schema import arguments_schema

__all__ = [
    "Calls",
    "Grammar",
    "GrammarCompiler",
    "GrammarFailed",
    "Matcher",
    "Thinking",
    "answer_grammar",
    "arguments_schema",
    "fitting_calls",
    "unfitting",
]
