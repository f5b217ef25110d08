# ruff: noqa: RUF001
"""Answers taken apart: every family's calls, thoughts, broken calls, however the text is cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.chat.answer_formats import (
    BARE,
    REASONING_FORMATS,
    THINK,
    TOOL_FORMATS,
    ReasoningFormat,
    ToolFormat,
    reasoning_format,
    tool_format,
)
from runtime.chat.answer_parser import AnswerForm, AnswerParser, Part, Said, Thought
from runtime.chat.tool_call_parsers import Call, Tagged

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": "object"}},
}
KNOWN = {"f": SCHEMA, "g": SCHEMA}
HARMONY = REASONING_FORMATS[0]
ARGUMENTS = {"a": '1 "x" \\ é', "n": 3, "o": {"k": [1, None, True]}}
JSON = json.dumps(ARGUMENTS, ensure_ascii=False)
ONLY_TEXT = {"a": "</x> {"}
DEEP = '{"k": [1, null, true]}'


def tags(open_key: str, close_key: str, line: str = "") -> str:
    values = {"a": ARGUMENTS["a"], "n": 3, "o": DEEP}
    return "".join(
        f"{open_key.replace('KEY', key)}{line}{value}{line}{close_key}{line}"
        for key, value in values.items()
    )


CASES: dict[str, str] = {
    "hermes": f'<tool_call>\n{{"name": "f", "arguments": {JSON}}}\n</tool_call>\n'
    '<tool_call>\n{"name": "g", "arguments": {"a": "</tool_call>"}}\n</tool_call>',
    "qwen-coder": "<tool_call>\n<function=f>\n"
    + tags("<parameter=KEY>", "</parameter>", "\n")
    + "</function>\n</tool_call>\n<tool_call>\n<function=g>\n<parameter=a>\n</tool>\n</parameter>\n"
    "</function>\n</tool_call>",
    "seed": "<seed:tool_call>\n<function=f>"
    + tags("<parameter=KEY>", "</parameter>")
    + "</function><function=g><parameter=a></tool></parameter></function>\n</seed:tool_call>",
    "json": f'{{"name": "f", "parameters": {JSON}}}; {{"name": "g", "parameters": {{"a": "}}"}}}}',
    "mistral": f"[TOOL_CALLS]f[ARGS]{JSON}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]"
    '{"a": "[TOOL_CALLS]"}',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
    f"{JSON}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>g<｜tool▁sep｜>"
    '{"a": "```"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "deepseek-dsml": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="f">\n'
    + tags('<｜DSML｜parameter name="KEY">', "</｜DSML｜parameter>")
    + '</｜DSML｜invoke>\n<｜DSML｜invoke name="g">\n<｜DSML｜parameter name="a" string="true">7'
    "</｜DSML｜parameter></｜DSML｜invoke>\n</｜DSML｜function_calls>",
    "harmony": f"<|channel|>commentary to=functions.f <|constrain|>json<|message|>{JSON}<|call|>"
    '<|start|>assistant to=functions.g<|channel|>commentary json<|message|>{"a": "b"}<|call|>',
    "granite": f'<|tool_call|>[{{"name": "f", "arguments": {JSON}}}, '
    '{"name": "g", "arguments": {"a": "<|tool_call|>"}}]',
    "glm": "<tool_call>f\n"
    + tags("<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>\n")
    + "</tool_call><tool_call>g<arg_key>a</arg_key><arg_value>b</arg_value></tool_call>",
    "hunyuan": "<tool_calls:opensource>\n<tool_call:opensource>f<tool_sep:opensource>\n"
    + tags(
        "<arg_key:opensource>KEY</arg_key:opensource>\n<arg_value:opensource>",
        "</arg_value:opensource>\n",
    )
    + "</tool_call:opensource>\n<tool_call:opensource>g<tool_sep:opensource>"
    "</tool_call:opensource>\n</tool_calls:opensource>",
    "minimax": '<minimax:tool_call>\n<invoke name="f">\n'
    + tags('<parameter name="KEY">', "</parameter>\n")
    + '</invoke>\n<invoke name="g">\n<parameter name="a">b</parameter></invoke>\n'
    "</minimax:tool_call>",
    "minimax-m3": "]<]minimax[>[<tool_call>\n"
    ']<]minimax[>[<invoke name="f">]<]minimax[>[<a>1 "x" \\ é]<]minimax[>[</a>'
    "]<]minimax[>[<n>3]<]minimax[>[</n>]<]minimax[>[<o>]<]minimax[>[<k>]<]minimax[>[<item>1"
    "]<]minimax[>[</item>]<]minimax[>[<item>null]<]minimax[>[</item>]<]minimax[>[<item>true"
    "]<]minimax[>[</item>]<]minimax[>[</k>]<]minimax[>[</o>]<]minimax[>[</invoke>\n"
    ']<]minimax[>[<invoke name="g">]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>',
    "kimi-k3": '<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|>'
    + tags('<|open|>argument key="KEY" type="object"<|sep|>', "<|close|>argument<|sep|>")
    + '<|close|>call<|sep|><|open|>call tool="g" index="2"<|sep|>'
    '<|open|>argument key="a" type="string"<|sep|>7<|close|>argument<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|>",
    "muse": '<atem:function_calls>\n<atem:invoke name="f">\n'
    + tags('<atem:parameter name="KEY">', "</atem:parameter>\n")
    + "</atem:invoke>\n</atem:function_calls><atem:function_calls>\n"
    '<atem:invoke name="g">\n</atem:invoke>\n</atem:function_calls>',
    "tool-calls": f'<tool_calls>\n{{"name": "f", "arguments": {JSON}}}\n'
    '{"name": "g", "arguments": {}}\n</tool_calls>',
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
    f"<|tool_call_argument_begin|>{JSON}<|tool_call_end|><|tool_call_begin|>functions.g:1"
    '<|tool_call_argument_begin|>{"a": "b"}<|tool_call_end|><|tool_calls_section_end|>',
    "gemma": '<|tool_call>call:f{a:<|"|>1 "x" \\ é<|"|>,n:3,o:{k:[1,None,true]}}<tool_call|>'
    '<|tool_call>call:g{a:<|"|>}<|"|>}<tool_call|>',
    "function-gemma": '<start_function_call>call:f{a:<escape>1 "x" \\ é<escape>,n:3,'
    "o:{k:[1,null,true]}}<end_function_call><start_function_call>call:g{}<end_function_call>",
    "command": f'<|START_ACTION|>[\n{{"tool_call_id": "0", "tool_name": "f", "parameters": {JSON}}}'
    ',\n{"tool_call_id": "1", "tool_name": "g", "parameters": {}}\n]<|END_ACTION|>',
    "command-r": f'Action:\n```json\n[{{"tool_name": "f", "parameters": {JSON}}}, '
    '{"tool_name": "g", "parameters": {"a": "```"}}]\n```',
    "solar": f"<|tool_calls|><|tool_call:begin|>i1<|tool_call:name|>f<|tool_call:args|>{JSON}"
    "<|tool_call:end|><|tool_call:begin|>i2<|tool_call:name|>g<|tool_call:args|>{}"
    "<|tool_call:end|><|calls|>",
    "lfm2": '<|tool_call_start|>[f(a=\'1 "x" \\\\ é\', n=3, o={"k": [1, null, True]}), g()]'
    "<|tool_call_end|>",
    "nemotron": f'<TOOLCALL>[{{"name": "f", "arguments": {JSON}}}, '
    '{"name": "g", "arguments": {}}]</TOOLCALL>',
    "apertus": f'<|tools_prefix|>[{{"f": {JSON}}}, {{"g": {{}}}}]<|tools_suffix|>',
    "function-tags": f'<function=f>{JSON}</function><function=g>{{"a": "</function>"}}</function>',
    "minicpm": '<function name="f">'
    + tags('<param name="KEY">', "</param>")
    + '</function>\n<function name="g"><param name="a"><![CDATA[</param> 7]]></param></function>',
    "functools": f'functools[{{"name": "f", "arguments": {JSON}}}, {{"name": "g"}}]',
    "gigachat": f'<|function_call|>{{"name": "f", "arguments": {JSON}}}<|message_sep|>'
    '<|function_call|>{"name": "g"}<|message_sep|>',
    "gigachat-role": f'function call<|role_sep|>\n{{"name": "f", "arguments": {JSON}}}'
    '<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "g"}<|message_sep|>',
}
"""Two calls in every format: of f with ARGUMENTS, and of g with whatever."""

FORMATS: dict[str, ToolFormat] = {each.name: each for each in (*TOOL_FORMATS, BARE)}


def form(name: str, reasoning: ReasoningFormat | None = THINK, **more: Any) -> AnswerForm:
    chosen = HARMONY if name == "harmony" and reasoning is not None else reasoning
    return AnswerForm(chosen, FORMATS[name], KNOWN, **more)


def parts(read: AnswerForm, *pieces: str) -> list[Part]:
    """The parts of an answer in pieces, with texts that follow each other as one."""
    parser = AnswerParser(read)
    found = [part for piece in pieces for part in parser.feed(piece)] + parser.flush()
    joined: list[Part] = []
    for part in found:
        last = joined[-1] if joined else None
        if isinstance(part, Said) and isinstance(last, Said):
            joined[-1] = Said(last.text + part.text)
        elif isinstance(part, Thought) and isinstance(last, Thought):
            joined[-1] = Thought(last.text + part.text)
        else:
            joined.append(part)
    return joined


def test_every_format_has_a_case() -> None:
    assert set(CASES) == set(FORMATS)


@pytest.mark.parametrize("name", CASES)
def test_a_format_s_calls_are_read(name: str) -> None:
    found = parts(form(name), CASES[name])
    assert all(isinstance(part, Call) for part in found), found
    first, second = (part for part in found if isinstance(part, Call))
    assert (first.name, json.loads(first.arguments)) == ("f", ARGUMENTS)
    assert second.name == "g"
    assert isinstance(json.loads(second.arguments), dict)


@pytest.mark.parametrize("name", CASES)
def test_text_before_calls_and_thoughts_before_both_are_parted(name: str) -> None:
    if name == "harmony":
        text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant" + CASES[name]
        assert parts(form(name), text)[0] == Thought("hm")
        return
    before = "" if name == "json" else "Well.\n"
    thought, *rest = parts(form(name), f"<think>\nhm\n</think>\n\n{before}{CASES[name]}")
    assert thought == Thought("hm")
    assert rest == [Said("Well.")][: len(before)] + parts(form(name), CASES[name])


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
def test_any_cutting_gives_the_same(name: str, data: st.DataObject) -> None:
    marks = sorted(form(name).marks)
    pieces = st.sampled_from([*marks, CASES[name], " ", "\n", '"', "{", "}", "a", "<", "\\"])
    text = "".join(data.draw(st.lists(pieces, max_size=6)))
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    cuts = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    whole = parts(form(name), text)
    assert parts(form(name), *cuts) == whole
    assert parts(form(name), *text) == whole


@pytest.mark.parametrize(
    "name",
    [name for name in CASES if FORMATS[name].in_json or isinstance(FORMATS[name].read, Tagged)],
)
def test_a_call_s_name_is_known_first_and_then_its_arguments_grow(name: str) -> None:
    parser = AnswerParser(form(name))
    begun: list[tuple[str, str]] = []
    found: list[Part] = []
    for letter in CASES[name]:
        found += parser.feed(letter)
        if parser.begun is not None and parser.begun.name == "f":
            begun.append((parser.begun.name, parser.begun.arguments))
    found += parser.flush()
    call = next(part for part in found if isinstance(part, Call))
    assert {name for name, _ in begun} == {call.name}
    given = [arguments for _, arguments in begun]
    assert given[0] == "{"
    # Of a call in tags the last brace comes when it is complete.
    assert call.arguments in (given[-1], given[-1] + "}")
    assert len(set(given)) > len(ARGUMENTS)
    assert given == sorted(given, key=len)
    assert all(call.arguments.startswith(arguments) for arguments in given)


@pytest.mark.parametrize("name", CASES)
def test_a_call_that_is_cut_short_is_text(name: str) -> None:
    case = CASES[name]
    begun = case[: case.index("f") + len(JSON) // 2]
    found = parts(form(name, None), begun)
    assert not any(isinstance(part, Call) for part in found)
    assert "".join(part.text for part in found if isinstance(part, Said)) == begun


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", '<tool_call>{"name": f}</tool_call> and more'),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>'),
        ("hermes", "<tool_call>" + "[" * 100_000 + "</tool_call>"),
        (
            "deepseek",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>x<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        ("qwen-coder", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>"),
        ("json", '{"answer": 7}'),
        ("json", '{"name": "h", "parameters": {}}'),
        ("json", "{a}"),
        ("gemma", "<|tool_call>call:f{a:}<tool_call|>"),
        ("gemma", "<|tool_call>call:f{a:" + "[" * 100_000 + "<tool_call|>"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>'),
        ("lfm2", "<|tool_call_start|>[f(a=1e999)]<|tool_call_end|>"),
        ("lfm2", "<|tool_call_start|>[f(1)]<|tool_call_end|>"),
        ("lfm2", "<|tool_call_start|>[f(a=open('x'))]<|tool_call_end|>"),
    ],
)
def test_a_broken_call_is_text(name: str, text: str) -> None:
    assert parts(form(name), text) == [Said(text)]


def test_muse_s_messages_to_itself_are_thoughts() -> None:
    muse = reasoning_format("<atem:function_calls>")
    answer = AnswerForm(muse, FORMATS["muse"], KNOWN)
    begin = " to=self<|message|>hm<|eom|><|start|>assistant"
    assert parts(answer, begin + "<|message|>Hi") == [Thought("hm"), Said("Hi")]


def test_muse_s_messages_to_tools_are_calls_without_their_address() -> None:
    answer = AnswerForm(reasoning_format("<atem:function_calls>"), FORMATS["muse"], KNOWN)
    call = CASES["muse"].partition('<atem:function_calls>\n<atem:invoke name="g">')[0]
    (expected,) = parts(answer, call)
    text = f" to=f<|message|>{call}<|eom|><|start|>assistant to=user<|message|>Hi<|eot|>"
    assert parts(answer, text) == [expected, Said("Hi")]
    assert parts(answer, *text) == [expected, Said("Hi")]


def test_kimi_k3_s_parts_are_thoughts_and_text() -> None:
    answer = AnswerForm(reasoning_format("<|end_of_msg|>"), FORMATS["kimi-k3"], KNOWN, True)
    thought = "hm<|close|>think<|sep|><|open|>response<|sep|>"
    text = f"{thought}Hi<|close|>response<|sep|><|close|>message<|sep|>"
    assert parts(answer, text) == [Thought("hm"), Said("Hi")]
    called = parts(answer, f"{thought}<|close|>response<|sep|>{CASES['kimi-k3']}")
    assert [type(part) for part in called] == [Thought, Call, Call]


def test_a_text_in_python_s_notation_may_have_line_ends() -> None:
    text = "<|tool_call_start|>[\nf(a='x\n\\'\"y\"'),\ng(a=\"it's\n\")]<|tool_call_end|>"
    found = [
        json.loads(part.arguments) for part in parts(form("lfm2"), text) if isinstance(part, Call)
    ]
    assert found == [{"a": 'x\n\'"y"'}, {"a": "it's\n"}]


def test_a_broken_call_does_not_hide_the_next_one() -> None:
    broken = "<tool_call>{]</tool_call>"
    good = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert parts(form("hermes"), broken + good) == [Said(broken), Call("f", "{}")]


def test_an_answer_without_marks_is_as_it_is() -> None:
    text = "  a < b\n\n<b> <tool {} [1] \n"
    assert parts(form("hermes"), text) == [Said(text)]
    assert parts(AnswerForm(THINK), text) == [Said(text)]
    assert parts(AnswerForm(), text) == [Said(text)]


def test_a_thought_may_begin_in_the_prompt_and_be_cut_short() -> None:
    read = AnswerForm(THINK, thinks_at_first=True)
    assert parts(read, "hm</think>\n\nHi") == [Thought("hm"), Said("Hi")]
    assert parts(read, "\nhm <thi") == [Thought("hm <thi")]
    assert parts(AnswerForm(THINK), "<think>\n\n</think>\n\nHi") == [Said("Hi")]


def test_a_think_mark_within_an_answer_is_text() -> None:
    text = "Models write <think>hm</think>."
    assert parts(AnswerForm(THINK), text) == [Said(text)]


def test_harmony_s_channels_are_thoughts_and_text() -> None:
    text = (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>"
        "I look.<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>"
    )
    assert parts(AnswerForm(HARMONY), text) == [Thought("hm"), Said("I look.Hi")]


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "3", "3"),
        ({"type": "string"}, '"a"', '"a"'),
        ({"type": "integer"}, "3", 3),
        ({"type": "boolean"}, "True", True),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": "array"}, "['a', None]", ["a", None]),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "2.5", 2.5),
        ({"enum": ["a", "1"]}, "1", "1"),
        ({}, "[1]", [1]),
        ({}, "plain", "plain"),
        ({"type": "integer"}, "many", "many"),
    ],
)
def test_a_value_without_a_type_gets_that_of_its_schema(
    schema: dict[str, Any], text: str, value: Any
) -> None:
    read = AnswerForm(None, FORMATS["glm"], {"f": {"properties": {"a": schema}}})
    written = f"<tool_call>f<arg_key>a</arg_key><arg_value>{text}</arg_value></tool_call>"
    (call,) = parts(read, written)
    assert isinstance(call, Call)
    assert json.loads(call.arguments) == {"a": value}


def test_formats_are_chosen_by_a_template_s_text() -> None:
    assert tool_format("{{ '<tool_call>' }}").name == "hermes"
    assert tool_format("{{ '<tool_call><function=x><parameter=y>' }}").name == "qwen-coder"
    assert tool_format("{{ tools }}") is BARE
    assert reasoning_format("[THINK] [/THINK]").start == "[THINK]"
    assert reasoning_format("nothing") is THINK
