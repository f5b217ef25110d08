"""The chat template of one model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template

from runtime.chat.answer_formats import (
    HERMES,
    ReasoningFormat,
    ToolFormat,
    reasoning_format,
    reasons,
    tool_format,
)
from runtime.chat.budget import Budget, Interrupted
from runtime.chat.generic_tools import with_tools
from runtime.chat.messages import Message, for_template, plain
from runtime.chat.sandbox import MAX_TIME_FORMAT_LENGTH, SANDBOX, Refusal
from runtime.chat.syntax import CONTENT, Reads, reads_of
from runtime.chat.text import TemplateText, joined
from runtime.chat.tool_call_writers import Written, written_calls
from runtime.errors import InvalidRequest, SettingsError
from runtime.tokenizer import Tokenizer, Watch, unwatched

SET_BY_US = frozenset(
    {"messages", "add_generation_prompt", "bos_token", "eos_token", "strftime_now"}
)
"""Variables of every rendering, which no request may set."""

MAX_SOURCE_LENGTH = 1 << 16
"""Characters of a template: four times those of the longest one known."""
MAX_REASON_LENGTH = 300
"""Maximum length of an error message of a template."""
SAMPLE_TEXT = "the text of a sample"
"""What `shows` looks for; no template has it."""
FOR_TOOLS = "tool_use"
"""Name of the template that a file may have for requests with tools."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled template and the fields it reads. Immutable."""

    template: Template
    reads: Reads
    source: str

    @property
    def knows_tools(self) -> bool:
        """Whether it tells the model about tools."""
        return "tools" in self.reads.variables


def compiled(source: str) -> Compiled:
    """Return a compiled template, cached. Raises InvalidRequest for an unreadable source."""
    made = _compiled(source)
    if isinstance(made, Compiled):
        return made
    raise InvalidRequest(
        f"the model's chat template cannot be read: {made}; serve it with another one "
        "(--chat-template FILE), or send a prompt to /v1/completions"
    )


@lru_cache(maxsize=16)
def _compiled(source: str) -> Compiled | str:
    """Return the compiled template, or why it cannot be compiled."""
    if len(source) > MAX_SOURCE_LENGTH:
        return f"it is longer than {MAX_SOURCE_LENGTH} characters"
    try:
        return Compiled(SANDBOX.from_string(source), reads_of(SANDBOX.parse(source)), source)
    except Exception as error:  # a template may fail in any way
        return _reason(error)


def source_of(path: Path | None) -> str | None:
    """Return the text of a template file after compiling it; None without a file.

    Raises SettingsError, as for any wrong value of the setting.
    """
    if path is None:
        return None
    try:
        source = path.read_text(encoding="utf-8")
        compiled(source)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"--chat-template takes a file with a Jinja template: {path} cannot be read ({error})"
        ) from None
    except InvalidRequest:
        raise SettingsError(
            f"--chat-template takes a file with a Jinja template, which {path} is not"
        ) from None
    return source


class ChatTemplate:
    """Turns messages into the tokens of a prompt. Immutable, so any thread may use it.

    Text in a message is never parsed for control tokens or for tokens that mark turns; text that
    the template itself writes is. Between control tokens both are tokenized together, as in
    llama.cpp.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        clock: Callable[[], datetime] = datetime.now,
        *,
        source: str | None = None,
    ) -> None:
        """Take the templates of a tokenizer, or `source` in the place of all of them.

        `clock` is the time that a template may ask for. Raises InvalidRequest where there is no
        template, or one that cannot be read.
        """
        named = dict(tokenizer.chat_templates) if source is None else {}
        default = tokenizer.chat_template if source is None else source
        if default is None:
            raise InvalidRequest(
                "the model's GGUF has no chat template, so messages cannot be made a prompt; serve "
                "it with one (--chat-template FILE), write the prompt yourself and send it to "
                "/v1/completions, or serve an instruct model"
            )
        self._tokenizer = tokenizer if source is None else tokenizer.reserving(source)
        self._clock = clock
        self._default = compiled(default)
        self._named = named

    def encode(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        variables: Mapping[str, Any] | None = None,
        watch: Watch = unwatched,
    ) -> list[int]:
        """Return the tokens of a conversation; parameters and exceptions are those of `render`.

        Before the rendering `watch` also gets a lower bound of the tokens: those of the user's own
        texts, and one for each message, since every template separates turns.
        """
        watch(max(len(messages), self._tokenizer.least_tokens(_typed_characters(messages))))
        text = self.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final=continue_final,
            variables=variables,
            watch=watch,
        )
        return self._tokenizer.encode_prompt(text, text.own, watch=watch)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        variables: Mapping[str, Any] | None = None,
        watch: Watch = unwatched,
    ) -> TemplateText:
        """Return the prompt as text.

        `add_generation_prompt` begins the assistant's answer; `continue_final` continues the last
        message, whose text then ends the prompt. `variables` are further variables of the template,
        such as `tools` or `enable_thinking`. `watch` is called while it is rendered.

        Raises InvalidRequest where the template refuses the messages, fails or wants too much, and
        what `watch` raises.
        """
        for name in variables or {}:
            if name in SET_BY_US:
                raise InvalidRequest(f"chat_template_kwargs may not set {name}")
        chosen = self._chosen(variables or {})
        if (tools := (variables or {}).get("tools")) and not chosen.knows_tools:
            messages = with_tools(messages, tools, chosen.source)
        try:
            with SANDBOX.rendering(watch) as budget:
                converted = for_template(messages, chosen.reads, budget)
                mark = _mark_end(converted) if continue_final else None
                given = {
                    "tools": None,
                    "documents": None,
                    **plain(variables or {}, budget),
                    "messages": converted,
                    "add_generation_prompt": add_generation_prompt and not continue_final,
                    "bos_token": self._token_text(self._tokenizer.bos),
                    "eos_token": self._token_text(self._tokenizer.eos),
                    "strftime_now": lambda format: self._time(str(format), budget),
                }
                text = joined((chosen.template.render(given),))
        except InvalidRequest:
            raise
        except Interrupted as interrupted:
            raise (interrupted.__cause__ or interrupted) from None
        except Refusal as refusal:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {_reason(refusal)}"
            ) from None
        except Exception as error:  # a template may fail in any way
            raise InvalidRequest(
                f"the model's chat template failed on these messages: {_reason(error)}"
            ) from None
        return text if mark is None else _cut(text, mark)

    def shows(
        self,
        role: str,
        *,
        variables: Mapping[str, Any] | None = None,
        watch: Watch = unwatched,
    ) -> bool:
        """Whether a prompt has what a role says first, which templates may refuse or leave out."""
        begin = ({"role": role, CONTENT: SAMPLE_TEXT}, {"role": "user", CONTENT: "."})
        try:
            return SAMPLE_TEXT in self.render(begin, variables=variables, watch=watch)
        except InvalidRequest:
            return False

    def reasoning(self, *, with_tools: bool) -> ReasoningFormat:
        """Return the format of the model's reasoning."""
        return reasoning_format(self._chosen({"tools": with_tools}).source)

    def tools(self) -> ToolFormat:
        """Return the format of the model's tool calls: generic if its template shows none."""
        chosen = self._chosen({"tools": True})
        return tool_format(chosen.source) if chosen.knows_tools else HERMES

    def reasons(self, *, with_tools: bool) -> bool:
        """Whether the template knows of reasoning at all."""
        return reasons(self._chosen({"tools": with_tools}).source)

    def written_calls(self) -> Written | None:
        """Return how a grammar writes the model's tool calls; None if that is unknown."""
        return written_calls(self.tools(), self._chosen({"tools": True}).source)

    def _chosen(self, variables: Mapping[str, Any]) -> Compiled:
        source = self._named.get(FOR_TOOLS) if variables.get("tools") else None
        return self._default if source is None else compiled(source)

    def _time(self, form: str, budget: Budget) -> str:
        budget.spend(len(form) * MAX_TIME_FORMAT_LENGTH)
        budget.check(len(form) * MAX_TIME_FORMAT_LENGTH)
        return self._clock().strftime(form)

    def _token_text(self, token: int | None) -> TemplateText:
        return TemplateText.wholly_own("" if token is None else self._tokenizer.token_text(token))


def _mark_end(messages: list[dict[str, Any]]) -> str:
    """Append a mark to the last message's text, and return the mark."""
    content = messages[-1][CONTENT] if messages else None
    if messages and isinstance(content, list):
        texts = [part for part in content if part.get("type") == "text"]
        content = texts[-1]["text"] if texts else None
    if not isinstance(content, str):
        raise InvalidRequest("there is no last message whose text could be continued")
    mark = "<continued here>"
    while mark in content:
        mark = f"<{mark}>"
    # If the space after it is gone, the template trims, so the end of the text is trimmed too.
    marked = f"{content}{mark} "
    if isinstance(messages[-1][CONTENT], list):
        texts[-1]["text"] = marked
    else:
        messages[-1][CONTENT] = marked
    return mark


def _cut(text: TemplateText, mark: str) -> TemplateText:
    """Return a prompt up to the mark after the last message's text."""
    place = text.rfind(mark)
    if place < 0:
        raise InvalidRequest(
            "the model's chat template does not show the last message as it is, so it cannot be "
            "continued; leave continue_final_message out"
        )
    before = text[:place]
    trimmed = text[place + len(mark) : place + len(mark) + 1] != " "
    return joined((before.rstrip() if trimmed else before,))


def _typed_characters(messages: Sequence[Message]) -> int:
    """Return the number of characters of users' texts, which no template drops.

    Texts of other roles may be dropped, such as reasoning.
    """
    contents = (message.get(CONTENT) for message in messages if message.get("role") == "user")
    return sum(len(text.strip()) for content in contents for text in _texts(content))


def _texts(content: object) -> Iterator[str]:
    """Yield the texts of a message's content, which is a string or a list of parts."""
    for part in content if isinstance(content, list) else (content,):
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            yield text


def _reason(error: Exception) -> str:
    """Return an exception's message on one line."""
    words = " ".join(str(error)[: 4 * MAX_REASON_LENGTH].split()) or type(error).__name__
    return words if len(words) <= MAX_REASON_LENGTH else f"{words[:MAX_REASON_LENGTH]}..."
