"""The chat template of one model."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from runtime.chat.sandbox import SANDBOX, Refusal, compiled
from runtime.chat.text import TemplateText, joined
from runtime.errors import InvalidRequest
from runtime.tokenizer import Tokenizer, Watch, unwatched, well_formed

Message = Mapping[str, Any]
"""`role` and `content`, and what else a template knows of."""

SET_BY_US = frozenset(
    {"messages", "add_generation_prompt", "bos_token", "eos_token", "strftime_now"}
)
"""Variables of every rendering, which no request may set."""


class ChatTemplate:
    """Turns messages into the tokens of a prompt. Immutable, so any thread may use it.

    What stands in a message is never parsed for control tokens or for tokens that mark turns; what
    the template itself writes is. Between control tokens both are cut into tokens together, as
    llama.cpp does.
    """

    def __init__(self, tokenizer: Tokenizer, clock: Callable[[], datetime] = datetime.now) -> None:
        """Take the template of a tokenizer; `clock` is the time that it may ask for.

        Raises InvalidRequest where there is none, or one that cannot be read.
        """
        if tokenizer.chat_template is None:
            raise InvalidRequest(
                "the model's GGUF has no chat template, so messages cannot be made a prompt; write "
                "the prompt yourself and send it to /v1/completions, or serve an instruct model"
            )
        self._tokenizer = tokenizer
        self._clock = clock
        try:
            self._template = compiled(tokenizer.chat_template)
        except Exception as error:  # a template may fail in any way
            raise InvalidRequest(
                f"the model's chat template cannot be read: {_reason(error)}; convert the model "
                "with another template, or send a prompt to /v1/completions"
            ) from None

    def encode(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
        watch: Watch = unwatched,
    ) -> list[int]:
        """Tokens of a conversation; `add_generation_prompt` lets the assistant speak next.

        Raises InvalidRequest where the template refuses the messages or fails, and what `watch`
        raises, which is told before the rendering how many tokens the user's own texts have.
        """
        watch(self._tokenizer.least_tokens(_typed_characters(messages)))
        text = self.render(
            messages, add_generation_prompt=add_generation_prompt, variables=variables
        )
        return self._tokenizer.encode_prompt(text, text.own, watch=watch)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> TemplateText:
        """The prompt as text. Raises as `encode` does."""
        for name in variables or {}:
            if name in SET_BY_US:
                raise InvalidRequest(f"chat_template_kwargs may not set {name}")
        given = {
            "tools": None,
            "documents": None,
            **_well_formed(variables or {}),
            "messages": _well_formed(messages),
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self._token_text(self._tokenizer.bos),
            "eos_token": self._token_text(self._tokenizer.eos),
            "strftime_now": lambda format: self._clock().strftime(format),
        }
        try:
            with SANDBOX.rendering():
                return joined((self._template.render(given),))
        except Refusal as refusal:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {_reason(refusal)}"
            ) from None
        except Exception as error:  # a template may fail in any way
            raise InvalidRequest(
                f"the model's chat template failed on these messages: {_reason(error)}"
            ) from None

    def _token_text(self, token: int | None) -> TemplateText:
        return TemplateText.wholly_own("" if token is None else self._tokenizer.token_text(token))


def _well_formed(value: Any) -> Any:
    """The value with every text in it as UTF-8 can hold it, and none the template's own."""
    if isinstance(value, str):
        return well_formed(str.__str__(value))
    if isinstance(value, Mapping):
        return {_well_formed(key): _well_formed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_well_formed(each) for each in value]
    return value


def _typed_characters(messages: Sequence[Message]) -> int:
    """Characters that stand in every prompt made of these messages: templates drop no user's text.

    Of other roles' messages they may, as they drop what a model thought.
    """
    typed = (message["content"] for message in messages if message.get("role") == "user")
    return sum(len(text.strip()) for text in typed if isinstance(text, str))


def _reason(error: Exception) -> str:
    """An exception's words on one line."""
    return " ".join(str(error).split()) or type(error).__name__
