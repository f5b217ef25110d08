"""Chat templates and answers: messages to tokens of a prompt, text to reasoning and calls."""

from runtime.chat.template import ChatTemplate, source_of

__all__ = ["ChatTemplate", "source_of"]
