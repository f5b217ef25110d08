# ruff: noqa: RUF001
"""How families of models mark their reasoning and their tool calls: tables, chosen by a template.

The marks are those that the families' own templates write; a row is taken where the template's
text has all of its `told_by`.
"""

from dataclasses import dataclass

from runtime.chat import tool_call_parsers as parsers
from runtime.chat.tool_call_parsers import Reader


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """Between which marks a family thinks. Immutable."""

    start: str
    end: str
    told_by: str = ""
    """What a template of this family has in its text; by default the end mark."""
    anywhere: bool = False
    """Whether it may begin behind other text; else only an answer begins with it."""
    dropped: tuple[str, ...] = ()
    """Marks of the answer's other parts, which are no text."""
    joint: str = ""
    """What stands between a thought and the rest."""
    heads: tuple[str, ...] = ()
    """Marks of which one, where the model has it as a token, begins an answer that is no call."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family writes tool calls. Immutable."""

    name: str
    told_by: tuple[str, ...]
    start: tuple[str, ...]
    """Marks before a call, or before several of them; none where JSON alone is a call."""
    end: tuple[str, ...]
    """Marks behind it; none where it goes to the next start, or to the end of the answer."""
    read: Reader
    opening: tuple[str, ...] = ()
    """Marks that begin a call at the beginning of an answer only."""
    sections: tuple[str, ...] = ()
    """Marks around several calls."""
    inner: tuple[str, ...] = ()
    """Names of control tokens that may stand within a call."""
    in_json: bool = True
    """Whether the arguments are JSON, in whose texts a mark is none."""
    complete: bool = True
    """Whether a call that ends without its mark can be told from one that was cut short."""
    short_ids: bool = False
    """Whether ids of calls have nine letters and digits."""


THINK = ReasoningFormat("<think>", "</think>")

REASONING_FORMATS = (
    ReasoningFormat(
        "<|channel|>analysis<|message|>",
        "<|end|>",
        told_by="<|channel|>analysis",
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
    ReasoningFormat("[THINK]", "[/THINK]"),
    ReasoningFormat("<seed:think>", "</seed:think>"),
    ReasoningFormat("<mm:think>", "</mm:think>"),
    ReasoningFormat("<think:opensource>", "</think:opensource>", told_by="<think{}>"),
    ReasoningFormat("◁think▷", "◁/think▷"),
    ReasoningFormat("<|inner_prefix|>", "<|inner_suffix|>"),
    ReasoningFormat(
        "Here are my reasoning steps:",
        "[BEGIN FINAL RESPONSE]",
        dropped=("[END FINAL RESPONSE]",),
    ),
    THINK,
)
"""The first that a template tells of; THINK where it tells of none."""

HERMES = ToolFormat(
    "hermes", ("<tool_call>",), ("<tool_call>",), ("</tool_call>",), parsers.objects
)

BARE = ToolFormat("json", (), (), (), parsers.known_objects, sections=("<|python_tag|>",))
"""A JSON object with the tool's name, and nothing around it."""

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
    ToolFormat(
        "lfm2",
        ("<|tool_call_start|>",),
        ("<|tool_call_start|>",),
        ("<|tool_call_end|>",),
        parsers.first_of(parsers.python_calls, parsers.objects),
        in_json=False,
    ),
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
        "gigachat-role",
        ("function call<|role_sep|>",),
        ("function call<|role_sep|>",),
        ("<|message_sep|>",),
        parsers.objects,
        sections=("<|message_sep|>",),
        inner=("<|role_sep|>",),
    ),
    ToolFormat(
        "gigachat",
        ("<|function_call|>",),
        ("<|function_call|>",),
        ("<|message_sep|>",),
        parsers.objects,
    ),
)
"""The first of which the template has all the words; BARE where there is none."""


def reasoning_format(template: str) -> ReasoningFormat:
    """How a model with this template thinks."""
    return next(
        (each for each in REASONING_FORMATS if (each.told_by or each.end) in template), THINK
    )


def reasons(template: str) -> bool:
    """Whether a template tells of reasoning at all."""
    return any((each.told_by or each.end) in template for each in REASONING_FORMATS)


def tool_format(template: str) -> ToolFormat:
    """How a model with this template, which knows tools, calls them."""
    for each in TOOL_FORMATS:
        if all(word in template for word in each.told_by):
            return each
    return BARE
