"""What a request's answer must look like: a schema, a regular expression, a choice or a grammar."""

from runtime.grammar.compiler import GrammarCompiler
from runtime.grammar.grammar import Grammar
from runtime.grammar.matcher import GrammarFailed, Matcher

__all__ = ["Grammar", "GrammarCompiler", "GrammarFailed", "Matcher"]
