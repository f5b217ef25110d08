# ruff: noqa: RUF001
"""How families write the tool calls that a grammar makes: tables, by the names of their formats.

The texts are those that the families' own templates write. Where a format is missing here, calls
are made in the generic form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from runtime.chat.answer_formats import HERMES, ToolFormat

NAME = "{name}"
ARGUMENTS = "{arguments}"
KEY = "{key}"
IS_TEXT = "{is_text}"
"""Placeholder of whether an argument is a text: true or false."""
INDEX = "{index}"
"""Placeholder of a number that distinguishes the calls of an answer."""


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """Calls whose arguments are a JSON object. Immutable."""

    call: str
    """A call, with the places of its name and its arguments."""
    before: str = ""
    """In front of the first call."""
    between: str | None = "\n"
    """Between two calls; None where an answer has one alone."""
    after: str = ""
    """After the last one, unless the answer's end replaces it."""
    signs: str = ""
    """Text that the template must contain."""


@dataclass(frozen=True, slots=True)
class TaggedCalls:
    """Calls with arguments in tags of their own, strings without quotes. Immutable."""

    call: str
    """Start of a call, with a placeholder for its name."""
    argument: str
    """Start of an argument, with a placeholder for its key."""
    argument_end: str
    """End of an argument; no string may contain it."""
    gap: str
    """Between the end of an argument and the next."""
    end: str
    before: str = ""
    between: str | None = "\n"
    after: str = ""
    signs: str = ""


@dataclass(frozen=True, slots=True)
class BracedCalls:
    """Calls with arguments in Gemma's notation. Immutable."""

    call: str
    """Start of a call, with a placeholder for its name."""
    quote: str
    """Mark around a text; no text may contain it."""
    end: str
    before: str = ""
    between: str | None = ""
    after: str = ""
    signs: str = ""


Written: TypeAlias = JsonCalls | TaggedCalls | BracedCalls

_OBJECT = '{"name": "{name}", "arguments": {arguments}}'

WRITTEN: Mapping[str, tuple[Written, ...]] = {
    "hermes": (JsonCalls(f"<tool_call>\n{_OBJECT}\n</tool_call>"),),
    "json": (JsonCalls('{"name": "{name}", "parameters": {arguments}}', between="; "),),
    "harmony": (
        JsonCalls(
            "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}",
            between=None,
        ),
    ),
    "deepseek": (
        JsonCalls(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```"
            "<｜tool▁call▁end｜>",
            before="<｜tool▁calls▁begin｜>",
            after="<｜tool▁calls▁end｜>",
            signs="```json",
        ),
        JsonCalls(
            "<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>",
            before="<｜tool▁calls▁begin｜>",
            between="",
            after="<｜tool▁calls▁end｜>",
        ),
    ),
    "deepseek-dsml": tuple(
        TaggedCalls(
            '<｜DSML｜invoke name="{name}">\n',
            '<｜DSML｜parameter name="{key}" string="{is_text}">',
            "</｜DSML｜parameter>",
            gap="\n",
            end="</｜DSML｜invoke>",
            before=f"<｜DSML｜{block}>\n",
            after=f"\n</｜DSML｜{block}>",
            signs=f"{block}>",
        )
        for block in ("function_calls", "tool_calls")
    ),
    "kimi": (
        JsonCalls(
            "<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>{arguments}"
            "<|tool_call_end|>",
            before="<|tool_calls_section_begin|>",
            between="",
            after="<|tool_calls_section_end|>",
        ),
    ),
    "mistral": (
        JsonCalls("[TOOL_CALLS]{name}[ARGS]{arguments}", between="", signs="[ARGS]"),
        JsonCalls(_OBJECT, before="[TOOL_CALLS][", between=", ", after="]"),
    ),
    "function-tags": (JsonCalls("<function={name}>{arguments}</function>", between=""),),
    "command": (
        JsonCalls(
            '    {"tool_call_id": "{index}", "tool_name": "{name}", "parameters": {arguments}}',
            before="<|START_ACTION|>[\n",
            between=",\n",
            after="\n]<|END_ACTION|>",
        ),
    ),
    "command-r": (
        JsonCalls(
            '{"tool_name": "{name}", "parameters": {arguments}}',
            before="Action:\n```json\n[",
            between=",\n",
            after="]\n```",
        ),
    ),
    "solar": (
        JsonCalls(
            "<|tool_call:begin|>{index}<|tool_call:name|>{name}<|tool_call:args|>{arguments}"
            "<|tool_call:end|>",
            before="<|tool_calls|>",
            between="",
            after="<|calls|>",
        ),
    ),
    "lfm2": (
        JsonCalls(_OBJECT, before="<|tool_call_start|>[", between=", ", after="]<|tool_call_end|>"),
    ),
    "nemotron": (JsonCalls(_OBJECT, before="<TOOLCALL>[", between=", ", after="]</TOOLCALL>"),),
    "tool-calls": (JsonCalls(_OBJECT, before="<tool_calls>\n", after="\n</tool_calls>"),),
    "apertus": (
        JsonCalls(
            '{"{name}": {arguments}}',
            before="<|tools_prefix|>[",
            between=", ",
            after="]<|tools_suffix|>",
        ),
    ),
    "granite": (JsonCalls(_OBJECT, before="<|tool_call|>[", between=", ", after="]"),),
    "functools": (JsonCalls(_OBJECT, before="functools[", between=", ", after="]"),),
    "gigachat": (JsonCalls(f"<|function_call|>{_OBJECT}", between=None),),
    "gigachat-role": (JsonCalls(f"function call<|role_sep|>\n{_OBJECT}", between=None),),
    "gemma": (BracedCalls("<|tool_call>call:{name}{", '<|"|>', "}<tool_call|>"),),
    "function-gemma": (
        BracedCalls("<start_function_call>call:{name}{", "<escape>", "}<end_function_call>"),
    ),
    "qwen-coder": (
        TaggedCalls(
            "<tool_call>\n<function={name}>\n",
            "<parameter={key}>\n",
            "</parameter>",
            gap="\n",
            end="</function>\n</tool_call>",
        ),
    ),
    "seed": (
        TaggedCalls(
            "<function={name}>\n",
            "<parameter={key}>",
            "</parameter>",
            gap="\n",
            end="</function>",
            before="<seed:tool_call>\n",
            after="\n</seed:tool_call>",
        ),
    ),
    "glm": (
        TaggedCalls(
            "<tool_call>{name}\n",
            "<arg_key>{key}</arg_key>\n<arg_value>",
            "</arg_value>",
            gap="\n",
            end="</tool_call>",
        ),
    ),
    "hunyuan": (
        TaggedCalls(
            "<tool_call:opensource>{name}<tool_sep:opensource>\n",
            "<arg_key:opensource>{key}</arg_key:opensource>\n<arg_value:opensource>",
            "</arg_value:opensource>",
            gap="\n",
            end="</tool_call:opensource>",
            before="<tool_calls:opensource>\n",
            after="\n</tool_calls:opensource>",
        ),
    ),
    "minimax": (
        TaggedCalls(
            '<invoke name="{name}">\n',
            '<parameter name="{key}">',
            "</parameter>",
            gap="\n",
            end="</invoke>",
            before="<minimax:tool_call>\n",
            after="\n</minimax:tool_call>",
        ),
    ),
    "minicpm": (
        TaggedCalls(
            '<function name="{name}">',
            '<param name="{key}">',
            "</param>",
            gap="",
            end="</function>",
        ),
    ),
}


def written_calls(format: ToolFormat, template: str) -> Written | None:
    """How calls of a format are written by a model with this template, where that is known."""
    return next((each for each in WRITTEN.get(format.name, ()) if each.signs in template), None)


def generic_calls() -> Written:
    """How calls are written if the model's own format is unknown: in the form of HERMES."""
    return WRITTEN[HERMES.name][0]
