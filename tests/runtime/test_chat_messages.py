"""Messages reach templates with every field, in the form that templates expect."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType

from runtime.chat import ChatTemplate
from runtime.chat.sandbox import SANDBOX
from runtime.chat.syntax import reads_of
from runtime.errors import InvalidRequest
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.models import byte_level_vocabulary, write_tiny_llama
from tests.runtime.chat_attacks import TokenizerOf

MARKERS = (
    *("<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|USER|>", "<|User|>"),
    *("<|end|>", "<|call|>"),
)
PRINTED = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
IN_PARTS = "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}"
BOTH = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{{ m.content | map(attribute='text') | join('+') }}{% endif %}{% endfor %}"
)


def rendered(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    template = ChatTemplate(TokenizerOf(source))  # type: ignore[arg-type]
    return str.__str__(template.render(messages, **options))


def asked(content: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **fields}]


def called(arguments: Any) -> list[dict[str, Any]]:
    function = {"name": "add", "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function}
    return [{"role": "assistant", "content": None, "tool_calls": [call]}]


PARTS = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ('{"z": 1, "a": {"y": "é<", "b": null}}', '{"z": 1, "a": {"y": "é<", "b": null}}'),
        ({"a": 1}, '{"a": 1}'),
        ("", "{}"),
        (" ", "{}"),
        ("null", "{}"),
        ('{"a": 1', '{"arguments": "{\\"a\\": 1"}'),
        ('{"a": NaN}', '{"arguments": "{\\"a\\": NaN}"}'),
        ("[1, 2]", '{"arguments": [1, 2]}'),
        ('"x"', '{"arguments": "x"}'),
    ],
)
def test_arguments_of_a_tool_call_are_a_mapping(given: Any, shown: str) -> None:
    source = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
    assert rendered(source, called(given)) == shown


def test_arguments_of_a_function_call_and_of_a_call_that_is_its_function_are_too() -> None:
    source = (
        "{{ messages[0].function_call.arguments.a }}{{ messages[0].tool_calls[0].arguments.a }}"
    )
    function = {"name": "add", "arguments": '{"a": 1}'}
    messages = [{"role": "assistant", "function_call": function, "tool_calls": [function]}]
    assert rendered(source, messages) == "11"


def test_arguments_can_be_gone_through() -> None:
    source = (
        "{% for t in messages[0].tool_calls %}{% if t.function.arguments is not mapping %}"
        "{{ raise_exception('a mapping') }}{% endif %}"
        "{% for k, v in t.function.arguments | items %}"
        "[{{ k }}={{ v | tojson }}]{% endfor %}{% endfor %}"
    )
    assert rendered(source, called('{"a": 1, "b": [2, "x"]}')) == '[a=1][b=[2, "x"]]'


def test_every_field_of_a_message_is_there_and_none_that_is_null() -> None:
    fields = {"thinking": "hm", "tool_plan": "p", "tool_responses": [{"a": 1}], "audio": None}
    source = "{{ messages[0] | tojson }}"
    shown = (
        '{"role": "user", "content": "Hi", "thinking": "hm", "tool_plan": "p", '
        '"tool_responses": [{"a": 1}]}'
    )
    assert rendered(source, asked("Hi", **fields)) == shown


@pytest.mark.parametrize("calls", [[], None])
def test_no_tool_calls_are_as_good_as_left_out(calls: Any) -> None:
    source = "{{ 'tool_calls' in messages[0] }}"
    assert rendered(source, asked("Hi", tool_calls=calls)) == "False"


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize("read", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_has_the_name_that_the_template_reads(name: str, read: str) -> None:
    source = f"{{{{ messages[0].{read} | default('-') }}}}"
    assert rendered(source, asked("Hi", **{name: "hm"})) == "hm"


def test_a_content_of_null_is_empty_text_and_is_none() -> None:
    nothing: list[dict[str, Any]] = [{"role": "assistant", "content": None}, {"role": "assistant"}]
    for source, shown in [
        (PRINTED, "[][]"),
        ("{% for m in messages %}{{ m.content is none }} {% endfor %}", "True True "),
        ("{% for m in messages %}{{ m.content is not none }} {% endfor %}", "False False "),
        ("{% for m in messages %}{{ m.content == none }} {% endfor %}", "True True "),
        ("{% for m in messages %}{{ m.content | trim + 'x' }}{% endfor %}", "xx"),
        ("{% for m in messages %}{{ 'y' if m.content else 'n' }}{% endfor %}", "nn"),
    ]:
        assert rendered(source, nothing) == shown


@pytest.mark.parametrize(
    ("source", "content", "shown"),
    [
        (PRINTED, "Hi", "[Hi]"),
        (PRINTED, PARTS, "[Hithere]"),
        (IN_PARTS, "Hi", "[Hi]"),
        (IN_PARTS, PARTS, "[Hi][there]"),
        (BOTH, "Hi", "Hi"),
        (BOTH, PARTS, "Hi+there"),
        (PRINTED, [{"type": "refusal", "refusal": "No."}], "[No.]"),
        (PRINTED, ["Hi"], "[Hi]"),
    ],
)
def test_a_content_is_parts_where_the_template_reads_parts(
    source: str, content: Any, shown: str
) -> None:
    assert rendered(source, asked(content)) == shown


@pytest.mark.parametrize(
    ("source", "parts", "asks"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False, False),
        ("{% for m in messages %}{{ m['content'] | trim }}{% endfor %}", False, False),
        ("{% set c = messages[0]['content'] %}{% for p in c %}{{ p }}{% endfor %}", True, False),
        ("{% set c = messages[0].get('content') or '' %}{% for p in c %}{% endfor %}", True, False),
        ("{% set ns = namespace() %}{% set ns.c = messages[0].content %}"
         "{% for p in ns.c %}{% endfor %}", True, False),
        ("{% macro m(c) %}{% if c is string %}{{ c }}{% else %}{% for p in c %}{% endfor %}"
         "{% endif %}{% endmacro %}{{ m(messages[0].content) }}", True, True),
        ("{% macro m(a, c=1) %}{% for p in c %}{% endfor %}{% endmacro %}"
         "{{ m(1, c=messages[0].content) }}", True, False),
        ("{{ messages[0].content | selectattr('type', 'equalto', 'text') | list }}", True, False),
        ("{{ messages[0].content[0].text }}{{ messages[0].content[0]['type'] }}", True, False),
        ("{{ (messages[0].content | first).text }}", True, False),
        ("{{ messages[0].content | map(attribute='text') | join }}", True, False),
        ("{{ messages[0].content | first }}{{ messages[0].content[0] }}", False, False),
        ("{% for m in messages %}{% for p in m.parts %}{% endfor %}{% endfor %}", False, False),
    ],
)  # fmt: skip
def test_the_syntax_tells_what_is_read(source: str, parts: bool, asks: bool) -> None:
    reads = reads_of(SANDBOX.parse(source))
    assert (reads.parts, reads.asks_for_text) == (parts, asks)


@pytest.mark.parametrize(
    "content",
    [[{"type": "image_url"}], [{"type": "text"}], [{"type": {}}], [7], [{}], [{"text": "x"}], 7],
)
@pytest.mark.parametrize("source", [PRINTED, IN_PARTS])
def test_parts_that_are_no_text_are_refused(source: str, content: Any) -> None:
    with pytest.raises(InvalidRequest):
        rendered(source, asked(content))


CONTINUED = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}" + (
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("source", "content", "shown"),
    [
        (CONTINUED, "It is", "<user>Hi</><assistant>It is"),
        (CONTINUED, "It is ", "<user>Hi</><assistant>It is "),
        (CONTINUED, "", "<user>Hi</><assistant>"),
        (CONTINUED, "a <continued here>", "<user>Hi</><assistant>a <continued here>"),
        (CONTINUED.replace("content", "content | trim"), "It is ", "<user>Hi</><assistant>It is"),
        (IN_PARTS, [*PARTS], "[Hi][Hi][there"),
    ],
)
def test_a_last_message_is_continued_where_its_text_ends(
    source: str, content: Any, shown: str
) -> None:
    messages = [*asked("Hi"), {"role": "assistant", "content": content}]
    assert rendered(source, messages, continue_final=True) == shown


def test_a_message_that_the_template_does_not_show_cannot_be_continued() -> None:
    with pytest.raises(InvalidRequest, match="does not show the last message"):
        rendered("{{ messages[0].role }}", asked("Hi"), continue_final=True)
    with pytest.raises(InvalidRequest, match="no last message"):
        rendered(CONTINUED, [], continue_final=True)


def test_the_template_for_tools_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    known = TokenizerOf("plain", {"tool_use": "{{ tools[0].name }}", "rag": "{{ x }}"})
    template = ChatTemplate(known)  # type: ignore[arg-type]
    assert template.render(asked("Hi")) == "plain"
    assert template.render(asked("Hi"), variables={"tools": [{"name": "add"}]}) == "add"
    own = ChatTemplate(known, source="own")  # type: ignore[arg-type]
    assert own.render(asked("Hi"), variables={"tools": [{"name": "add"}]}) == "own"


def test_named_templates_of_a_file_are_read(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    vocabulary = byte_level_vocabulary()

    class Named(type(vocabulary)):  # type: ignore[misc]
        def write(self, writer: GGUFWriter) -> None:
            super().write(writer)
            writer.add_string("tokenizer.chat_template.tool_use", "{{ tools }}")

    named = Named(**{name: getattr(vocabulary, name) for name in vocabulary.__dataclass_fields__})
    path = write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=named, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    assert dict(tokenizer.chat_templates) == {"tool_use": "{{ tools }}"}


def with_markers(folder: Path, source: str) -> ChatTemplate:
    vocabulary = byte_level_vocabulary()
    tokens = [*vocabulary.tokens, *MARKERS]
    types = [*vocabulary.types, *[TokenType.CONTROL] * len(MARKERS)]
    vocabulary = replace(vocabulary, tokens=tokens, types=types, chat_template=source)
    path = write_tiny_llama(folder / "tiny.gguf", vocabulary=vocabulary, layers=1)
    return ChatTemplate(Tokenizer.from_gguf(GGUFFile.open(path)))


@pytest.mark.parametrize(
    ("source", "marker"),
    [
        ("{{ '<|' + m.role + '|>' }}", "<|user|>"),
        ("<|{{ m.role }}|>", "<|user|>"),
        ("{{ '<|' ~ m['role'] | upper ~ '|>' }}", "<|USER|>"),
        ("{{ '<|' ~ m.role.upper().lower() ~ '|>' }}", "<|user|>"),
        ("{{ '<|' ~ m.role | title ~ '|>' }}", "<|User|>"),
        ("{{ '<|' ~ m.role | capitalize ~ '|>' }}", "<|User|>"),
        ("{{ '<|USER|>' | lower }}", "<|user|>"),
        ("{{ '<|{}|>'.format(m.role) }}", "<|user|>"),
        ("{{ '<|{role}|>'.format(role=m.role) }}", "<|user|>"),
        ("{{ '<|{0.role}|>'.format(m) }}", "<|user|>"),
        ("{{ '<|%s|>' % m.role }}", "<|user|>"),
        ("{{ '<|%(role)s|>' % {'role': m.role} }}", "<|user|>"),
        ("{{ '<|%s|>' | format(m.role) }}", "<|user|>"),
        ("{{ {'user': '<|user|>', 'assistant': '<|assistant|>'}[m.role] }}", "<|user|>"),
        ("{{ ['<|system|>', '<|user|>'][1] }}", "<|user|>"),
        ("{{ ('<|system|>', '<|user|>') | last }}", "<|user|>"),
        (
            "{% macro f(m) %}{{ m.role }}{% endmacro %}{{ f({'role': '<|user|>'}) }}",
            "<|user|>",
        ),
        ("{% set ns = namespace(d={'a': '<|user|>'}) %}{{ ns.d.a }}", "<|user|>"),
        ("{% set ns = namespace() %}{% set ns.a = '<|user|>' %}{{ ns.a }}", "<|user|>"),
        ("{{ [{'a': '<|user|>'}] | map(attribute='a') | join }}", "<|user|>"),
        ("{{ dict(user='<|user|>')[m.role] }}", "<|user|>"),
        ("{{ '<|x|>'.replace('x', m.role) }}", "<|user|>"),
        ("{{ '<|x|>' | replace('x', m.role) }}", "<|user|>"),
        ("{{ '<|' ~ (m.role if m.role != 'tool' else 'user') ~ '|>' }}", "<|user|>"),
    ],
)
def test_a_role_and_a_literal_stay_the_templates_own(
    tmp_path: Path, source: str, marker: str
) -> None:
    template = with_markers(
        tmp_path, f"{{% for m in messages %}}{source}{{{{ m.content }}}}{{% endfor %}}"
    )
    typed = "".join(MARKERS)
    plain = template._tokenizer.encode(typed)
    expected = template._tokenizer.encode(marker, parse_special=True)
    assert len(expected) == 1
    assert template.encode(asked(typed)) == expected + plain


@pytest.mark.parametrize("role", ["<|system|>", "end", "call", "system|><|end", "USER"])
def test_a_role_that_none_knows_is_typed(tmp_path: Path, role: str) -> None:
    template = with_markers(
        tmp_path, "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}"
    )
    tokens = template.encode([{"role": role, "content": "Hi"}])
    assert tokens == template._tokenizer.encode(f"<|{role}|>")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ '{:>4}|{:02d}|{!r}|{{}}'.format('ab', 7, 'x') }}", "  ab|07|'x'|{}"),
        ("{{ '{:{}}|{:.2f}'.format('a', 3, 1.005) }}", "a  |1.00"),
        ("{{ '%5s|%-5s|%05d|%.1f|%x|%%|%r' % ('a', 'b', 7, 0.25, 255, 'x') }}",
         "    a|b    |00007|0.2|ff|%|'x'"),
        ("{{ '%*d' % (4, 7) }}", "   7"),
        ("{{ messages | batch(2) | map('length') | join(',') }}", "2,1"),
        ("{{ range(5) | slice(2) | map('join') | join('|') }}", "012|34"),
        ("{{ 'a' | center(5) }}|", "  a  |"),
        ("{{ 'aa bb cc' | wordwrap(5) }}", "aa bb\ncc"),
        ("{{ {'b': 1, 'a': [none]} | pprint }}", "{'a': [None], 'b': 1}"),
        ("{{ {'b': 1, 'a': 'é<&'} | tojson }}", '{"b": 1, "a": "é<&"}'),
        ("{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true,"
         " separators=(',', ':')) }}",
         '{"a":"\\u00e9","b":1}'),
        ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ 'x' | indent(2, true) }}{{ 'a\\n\\nb' | indent }}", "  xa\n\n    b"),
        ("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}", "1False"),
        ("{% for i in range(9) %}{% if i > 2 %}{% break %}{% endif %}"
         "{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{{ 1 < 2 < 3 }}{{ 1 < 2 > 3 }}{{ 'a' in 'abc' }}{{ 2 not in [1] }}", "TrueFalseTrueTrue"),
        ("{{ 'abc'[1:] }}{{ messages[::-1][0].content }}{{ 'abc'[::2] }}", "bcAnd?ac"),
        ("{% set f = [1, 2] | map('string') %}{{ 'y' if f }}{{ f | list | join }}{{ f | list }}",
         "y12[]"),
        ("{{ 'a<b' | e }}{{ 'a<b' | safe }}{{ none }}{{ 3 / 2 }}{{ [1, 'a'] }}",
         "a&lt;ba<bNone1.5[1, 'a']"),
        ("{{ [[1], [2]] | sum(start=[]) }}{{ [3, 1] | sort }}{{ {'b': 1, 'a': 2} | dictsort }}",
         "[1, 2][1, 3][('a', 2), ('b', 1)]"),
    ],
)  # fmt: skip
def test_what_templates_may_use(source: str, shown: str) -> None:
    messages = [*asked("Hi"), {"role": "assistant", "content": "Hello"}, *asked("And?")]
    assert rendered(source, messages) == shown


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ '%s %s' % ('a',) }}", "not enough arguments"),
        ("{{ '%s' % ('a', 'b') }}", "not all arguments"),
        ("{{ '%q' % 1 }}", "format"),
        ("{{ '%(a)s' % 'x' }}", "mapping"),
        ("{{ ','.join([1]) }}", "expected str"),
        ("{{ (messages | map('upper')) | length }}", "len"),
    ],
)
def test_what_python_refuses_is_refused(source: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        rendered(source, asked("Hi"))
