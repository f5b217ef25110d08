# ruff: noqa: RUF001
"""Tables of how families of models mark reasoning and tool calls, chosen by the chat template.

The marks are those that the families' own templates write; a row applies if the template's text
contains all of its `signs`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from runtime.chat import tool_call_parsers as parsers
from runtime.chat.tool_call_parsers import Reader


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """The marks around a family's reasoning. Immutable."""

    start: str
    end: str
    signs: str = ""
    """Text in a template of this family; by default the end mark."""
    anywhere: bool = False
    """Whether reasoning may follow other text; else it can only begin an answer."""
    dropped: tuple[str, ...] = ()
    """Marks of the answer's other parts, which are dropped."""
    joint: str = ""
    """Text between reasoning and the rest."""
    heads: tuple[str, ...] = ()
    """One of these, if the model has it as a token, begins an answer that is no call."""
    recipient: str = ""
    """The part of `start` that names whom reasoning is for; other parts name a tool or the user."""

    def addressed(self, names: Iterable[str]) -> frozenset[str]:
        """Return the marks of parts for tools of these names or the user; they are dropped."""
        if not self.recipient:
            return frozenset()
        return frozenset(self.start.replace(self.recipient, name) for name in (*names, "user"))


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family writes tool calls. Immutable."""

    name: str
    signs: tuple[str, ...]
    start: tuple[str, ...]
    """Marks before a call, or before several of them; none where JSON alone is a call."""
    end: tuple[str, ...]
    """Marks after a call; none if it ends at the next start, or at the end of the answer."""
    read: Reader
    opening: tuple[str, ...] = ()
    """Marks that begin a call at the beginning of an answer only."""
    sections: tuple[str, ...] = ()
    """Marks around several calls."""
    inner: tuple[str, ...] = ()
    """Names of control tokens allowed within a call."""
    in_json: bool = True
    """Whether the arguments are JSON; a mark inside its strings does not count."""
    complete: bool = True
    """Whether a complete call without its end mark can be distinguished from a truncated one."""
    short_ids: bool = False
    """Whether ids of calls have nine letters and digits."""


THINK = ReasoningFormat("<think>", "</think>")

REASONING_FORMATS = (
    ReasoningFormat(
        "<|channel|>analysis<|message|>",
        "<|end|>",
        signs="<|channel|>analysis",
        anywhere=True,
        dropped=(
            "<|start|>assistant",
            "<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|end|>",
            "<|return|>",
        ),
        joint="<|start|>assistant",
        heads=("<|channel|>final<|message|>",),
    ),
    ReasoningFormat("<|channel>thought", "<channel|>", anywhere=True),
    ReasoningFormat(
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        dropped=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
        heads=("<|START_RESPONSE|>", "<|START_TEXT|>"),
    ),
    ReasoningFormat(
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        signs="<|end_of_msg|>",
        dropped=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
    ),
    ReasoningFormat(
        "to=self<|message|>",
        "<|eom|>",
        signs="<atem:function_calls>",
        anywhere=True,
        dropped=("<|start|>assistant", "<|message|>", "<|eom|>", "<|eot|>"),
        recipient="self",
    ),
    ReasoningFormat("[THINK]", "[/THINK]"),
    ReasoningFormat("<seed:think>", "</seed:think>"),
    ReasoningFormat("<mm:think>", "</mm:think>"),
    ReasoningFormat("<think:opensource>", "</think:opensource>", signs="<think{}>"),
    ReasoningFormat("◁think▷", "◁/think▷"),
    ReasoningFormat("<|inner_prefix|>", "<|inner_suffix|>"),
    ReasoningFormat(
        "Here are my reasoning steps:",
        "[BEGIN FINAL RESPONSE]",
        dropped=("[END FINAL RESPONSE]",),
    ),
    THINK,
)
"""The first whose words the template contains; THINK if none."""

HERMES = ToolFormat(
    "hermes", ("<tool_call>",), ("<tool_call>",), ("</tool_call>",), parsers.objects
)

BARE = ToolFormat("json", (), (), (), parsers.known_objects, sections=("<|python_tag|>",))
"""A JSON object with the tool's name, and nothing around it."""

LFM2 = ToolFormat(
    "lfm2",
    ("<|tool_call_start|>",),
    ("<|tool_call_start|>",),
    ("<|tool_call_end|>",),
    parsers.first_of(parsers.python_calls, parsers.objects),
    in_json=False,
)

TOOL_FORMATS = (
    ToolFormat(
        "harmony",
        ("<|channel|>", "<|message|>", "functions."),
        (
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
            "<|start|>assistant to=functions.",
        ),
        ("<|call|>", "<|end|>", "<|return|>"),
        parsers.named(r"(?P<name>[^\s<]+).*", "<|message|>"),
        opening=("to=functions.",),
        inner=("<|message|>", "<|channel|>", "<|constrain|>"),
    ),
    ToolFormat(
        "deepseek-dsml",
        ("｜DSML｜", "invoke name="),
        ("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
        ("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
        parsers.tagged(
            r'<｜DSML｜invoke name="(?P<name>[^"]*)">',
            "</｜DSML｜invoke>",
            r'<｜DSML｜parameter name="(?P<key>[^"]*)"(?: string="(?P<text>true|false)")?>',
            "</｜DSML｜parameter>",
        ),
        inner=("｜DSML｜",),
        in_json=False,
    ),
    ToolFormat(
        "deepseek",
        ("<｜tool▁call▁begin｜>",),
        ("<｜tool▁call▁begin｜>",),
        ("<｜tool▁call▁end｜>",),
        parsers.first_of(
            parsers.named(
                r"(?:function<｜tool▁sep｜>)?(?P<name>[^\s<]+)", "\n```json", fenced=True
            ),
            parsers.named(r"(?P<name>[^\s<]+)", "<｜tool▁sep｜>"),
        ),
        sections=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        inner=("<｜tool▁sep｜>",),
    ),
    ToolFormat(
        "kimi",
        ("<|tool_call_argument_begin|>",),
        ("<|tool_call_begin|>",),
        ("<|tool_call_end|>",),
        parsers.named(
            r"(?P<id>(?:functions\.)?(?P<name>[^\s:<]+)(?::\d+)?)", "<|tool_call_argument_begin|>"
        ),
        sections=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        inner=("<|tool_call_argument_begin|>",),
    ),
    ToolFormat(
        "mistral",
        ("[TOOL_CALLS]",),
        ("[TOOL_CALLS]",),
        (),
        parsers.first_of(
            parsers.named(r"(?P<name>[^\s\[]+)(?:\[CALL_ID\](?P<id>[a-zA-Z0-9]{9}))?", "[ARGS]"),
            parsers.objects,
        ),
        inner=("[ARGS]", "[CALL_ID]"),
        short_ids=True,
    ),
    ToolFormat(
        "minimax-m3",
        ("]<]minimax[>[", "<tool_call>"),
        ("]<]minimax[>[<tool_call>",),
        ("]<]minimax[>[</tool_call>",),
        parsers.nested("]<]minimax[>["),
        inner=("]<]minimax[>[",),
        in_json=False,
    ),
    ToolFormat(
        "kimi-k3",
        ("<|open|>", "<|close|>", "<|end_of_msg|>"),
        ("<|open|>tools<|sep|>",),
        ("<|close|>tools<|sep|>",),
        parsers.tagged(
            r'<\|open\|>call tool="(?P<name>[^"]*)"[^<]*<\|sep\|>',
            r"<\|close\|>call<\|sep\|>",
            r'<\|open\|>argument key="(?P<key>[^"]*)"(?: type="(?P<text>[^"]*)")?<\|sep\|>',
            "<|close|>argument<|sep|>",
        ),
        inner=("<|open|>", "<|close|>", "<|sep|>"),
        in_json=False,
    ),
    ToolFormat(
        "muse",
        ("<atem:function_calls>",),
        ("<atem:function_calls>",),
        ("</atem:function_calls>",),
        parsers.tagged(
            r'<atem:invoke name="(?P<name>[^"]*)">',
            "</atem:invoke>",
            r'<atem:parameter name="(?P<key>[^"]*)">',
            "</atem:parameter>",
        ),
        in_json=False,
    ),
    ToolFormat(
        "minimax",
        ("<minimax:tool_call>",),
        ("<minimax:tool_call>",),
        ("</minimax:tool_call>",),
        parsers.tagged(
            r'<invoke name="?(?P<name>[^">]*)"?>',
            "</invoke>",
            r'<parameter name="?(?P<key>[^">]*)"?>',
            "</parameter>",
        ),
        in_json=False,
    ),
    ToolFormat(
        "glm",
        ("<tool_call>", "<arg_key>", "<arg_value>"),
        ("<tool_call>",),
        ("</tool_call>",),
        parsers.tagged(
            r"(?P<name>[^\s<]+)",
            r"$",
            r"<arg_key>(?P<key>[^<]*)</arg_key>\s*<arg_value>",
            "</arg_value>",
        ),
        in_json=False,
        complete=False,
    ),
    ToolFormat(
        "hunyuan",
        ("<tool_call{}>", "<tool_sep{}>"),
        ("<tool_call:opensource>",),
        ("</tool_call:opensource>",),
        parsers.tagged(
            r"(?P<name>[^\s<]+)<tool_sep:opensource>",
            r"$",
            r"<arg_key:opensource>(?P<key>[^<]*)</arg_key:opensource>\s*<arg_value:opensource>",
            "</arg_value:opensource>",
        ),
        sections=("<tool_calls:opensource>", "</tool_calls:opensource>"),
        in_json=False,
        complete=False,
    ),
    ToolFormat(
        "seed",
        ("<seed:tool_call>",),
        ("<seed:tool_call>",),
        ("</seed:tool_call>",),
        parsers.tagged(
            r"<function=(?P<name>[^>\n]+)>",
            "</function>",
            r"<parameter=(?P<key>[^>\n]+)>",
            "</parameter>",
        ),
        in_json=False,
    ),
    ToolFormat(
        "qwen-coder",
        ("<tool_call>", "<function=", "<parameter="),
        ("<tool_call>",),
        ("</tool_call>",),
        parsers.tagged(
            r"<function=(?P<name>[^>\n]+)>",
            "</function>",
            r"<parameter=(?P<key>[^>\n]+)>",
            "</parameter>",
        ),
        in_json=False,
    ),
    ToolFormat(
        "function-tags",
        ("<function=", "</function>"),
        ("<function=",),
        ("</function>",),
        parsers.named(r"(?P<name>[^\s>]+)", ">"),
    ),
    ToolFormat(
        "minicpm",
        ('<function name="', '<param name="'),
        ('<function name="',),
        ("</function>",),
        parsers.tagged(
            r'(?P<name>[^">]*)">',
            "$",
            r'<param name="(?P<key>[^">]*)">',
            "</param>",
            cdata=True,
        ),
        in_json=False,
        complete=False,
    ),
    ToolFormat(
        "gemma",
        ("<|tool_call>", "<tool_call|>"),
        ("<|tool_call>",),
        ("<tool_call|>",),
        parsers.braced,
        inner=('<|"|>',),
        in_json=False,
    ),
    ToolFormat(
        "function-gemma",
        ("<start_function_call>",),
        ("<start_function_call>",),
        ("<end_function_call>",),
        parsers.braced,
        inner=("<escape>",),
        in_json=False,
    ),
    ToolFormat(
        "command",
        ("<|START_ACTION|>",),
        ("<|START_ACTION|>",),
        ("<|END_ACTION|>",),
        parsers.objects,
    ),
    ToolFormat(
        "command-r",
        ("Action:", "```json", "tool_name"),
        ("Action:\n```json", "Action: ```json"),
        ("```",),
        parsers.objects,
    ),
    ToolFormat(
        "solar",
        ("<|tool_call:begin|>",),
        ("<|tool_call:begin|>",),
        ("<|tool_call:end|>",),
        parsers.named(
            r"(?P<id>[^<\s]*)<\|tool_call:name\|>(?P<name>[^<\s]+)", "<|tool_call:args|>"
        ),
        sections=("<|tool_calls|>", "<|calls|>"),
        inner=("<|tool_call:name|>", "<|tool_call:args|>"),
    ),
    LFM2,
    replace(LFM2, signs=("<|tool_list_start|>",)),
    replace(LFM2, signs=("List of tools: [",)),
    ToolFormat(
        "nemotron",
        ("<TOOLCALL>",),
        ("<TOOLCALL>",),
        ("</TOOLCALL>",),
        parsers.objects,
    ),
    ToolFormat(
        "tool-calls",
        ("<tool_calls>",),
        ("<tool_calls>",),
        ("</tool_calls>",),
        parsers.objects,
    ),
    ToolFormat(
        "apertus",
        ("<|tools_prefix|>",),
        ("<|tools_prefix|>",),
        ("<|tools_suffix|>",),
        parsers.keyed_objects,
    ),
    HERMES,
    ToolFormat("granite", ("<|tool_call|>",), ("<|tool_call|>",), (), parsers.objects),
    ToolFormat("functools", ("functools[",), ("functools[",), (), parsers.rest_of_array),
    ToolFormat(
        "gigachat",
        ("<|function_call|>",),
        ("<|function_call|>",),
        ("<|message_sep|>",),
        parsers.objects,
    ),
    ToolFormat(
        "gigachat-role",
        ("function call", "<|role_sep|>", "<|message_sep|>"),
        ("function call<|role_sep|>",),
        ("<|message_sep|>",),
        parsers.objects,
        sections=("<|message_sep|>",),
        inner=("<|role_sep|>",),
    ),
)
"""The first whose words are all in the template; BARE if none."""


def reasoning_format(template: str) -> ReasoningFormat:
    """Return the reasoning format of a model with this template."""
    return next((each for each in REASONING_FORMATS if (each.signs or each.end) in template), THINK)


def reasons(template: str) -> bool:
    """Whether a template mentions reasoning."""
    return any((each.signs or each.end) in template for each in REASONING_FORMATS)


def tool_format(template: str) -> ToolFormat:
    """How a model with this template, which knows tools, calls them."""
    for each in TOOL_FORMATS:
        if all(word in template for word in each.signs):
            return each
    return BARE
