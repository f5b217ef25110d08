"""Messages to a prompt's tokens, by the chat template that stands in a GGUF."""

from runtime.chat.template import ChatTemplate, source_of

__all__ = ["ChatTemplate", "source_of"]
