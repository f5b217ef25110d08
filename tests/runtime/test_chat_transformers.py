"""Prompts are those of transformers: here for a few templates; for many by `make templates`."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.chat import ChatTemplate
from runtime.errors import InvalidRequest
from tests.runtime.chat_attacks import TokenizerOf
from tests.runtime.conversations import CONVERSATIONS
from tests.runtime.template_cases import BOTH_FAIL, EQUAL, _compared
from tests.runtime.transformers_chat import NOW, rendered

CALLS = (
    "{{- bos_token }}{%- set ns = namespace(system='', calls=0, last=-1) %}\n"
    "{%- if messages[0].role in ['system', 'developer'] %}\n"
    "{%- set ns.system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}\n"
    "{%- endif %}\n"
    "{%- macro text(content) %}{%- if content is string %}{{- content }}\n"
    "{%- elif content is iterable and content is not mapping %}{%- for part in content %}\n"
    "{%- if part.type == 'text' %}{{- part.text }}{%- endif %}{%- endfor %}\n"
    "{%- elif content is none or content is undefined %}{{- '' }}\n"
    "{%- else %}{{- raise_exception('no such content') }}{%- endif %}{%- endmacro %}\n"
    "{%- if tools %}{{- '<|system|>' + ns.system ~ '\\n' }}{%- for tool in tools %}\n"
    "{{- tool.function | tojson(indent=2) }}{%- endfor %}{{- '<|end|>' }}\n"
    "{%- elif ns.system %}{{- '<|system|>%s<|end|>' % ns.system }}{%- endif %}\n"
    "{%- for message in messages %}\n"
    "{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}\n"
    "{%- for message in messages %}\n"
    "{%- if loop.first and message.role != 'user' %}{{- raise_exception('user first') }}\n"
    "{%- endif %}\n"
    "{%- if message.role == 'tool' %}\n"
    "{{- '<|tool|>{}:{}<|end|>'.format(message.name, text(message.content)) }}\n"
    "{%- else %}{{- '<|' + message.role | lower + '|>' }}\n"
    "{%- if message.reasoning_content and loop.index0 > ns.last - 2 %}\n"
    "{{- '<think>' ~ message.reasoning_content.strip() ~ '</think>' }}{%- endif %}\n"
    "{%- generation %}{{- text(message.content).split('</think>')[-1] | trim }}\n"
    "{%- endgeneration %}\n"
    "{%- for call in message.tool_calls or [] %}{%- set function = call.function %}\n"
    "{{- ('\\n' if not loop.first else '') ~ '<|call|>' ~ function['name'] }}\n"
    "{%- for name, value in function.arguments | dictsort %}\n"
    "{{- '[' ~ name ~ '=' ~ (value if value is string else value | tojson) ~ ']' }}{%- endfor %}\n"
    "{%- endfor %}{{- '<|end|>' }}{%- endif %}{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}\n"
    "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think></think>' }}\n"
    "{%- endif %}\n"
    "{%- if reasoning_effort | default('', true) %}{{- reasoning_effort | upper }}{% endif %}\n"
    "{%- endif %}"
)  # fmt: skip
"""What many templates do, in one: system, tools, calls, results, parts, reasoning."""


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_template_of_many_constructs_gives_what_transformers_gives(name: str) -> None:
    template = ChatTemplate(TokenizerOf(CALLS), lambda: NOW)  # type: ignore[arg-type]
    kind, ours, theirs = _compared(template, CALLS, name, CONVERSATIONS[name])
    assert kind == EQUAL, (ours, theirs)


NAMES = st.sampled_from(["messages", "messages[0]", "x", "n", "s", "l"])
FILTERS = st.sampled_from(
    [
        *("trim", "upper", "lower", "title", "capitalize", "length", "list", "first", "last"),
        *("join('-')", "join", "tojson", "tojson(indent=1)", "replace('a', 'b')", "string", "int"),
        *("default('d')", "default('d', true)", "reverse | list", "sort", "unique | list", "abs"),
        *("map('string') | list", "map(attribute='role') | list", "select | list", "center(9)"),
        *("selectattr('role', 'equalto', 'user') | list", "batch(2) | list", "slice(2) | list"),
        *(
            "indent(2, true)",
            "wordwrap(3)",
            "wordcount",
            "truncate(5, true)",
            "pprint",
            "items | list",
        ),
        *("groupby('role') | list", "dictsort", "sum", "min", "max", "round", "float", "format(1)"),
    ]
)
ENDS = st.sampled_from(
    [
        *("", "[0]", "[1:]", "[::-1]", ".role", "['role']", " + 'z'", " ~ 1", " * 2", " % 'q'"),
        *(" == 'a'", " is string", " is mapping", " is none", " is defined", " in 'abc'"),
        *(".split(' ')", ".strip()", ".get('role')", ".items() | list", ".upper()", ".format(1)"),
        *(".replace('a', 'c')", ".count('a')"),
    ]
)
EXPRESSIONS = st.builds(
    lambda name, filters, end: f"({' | '.join([name, *filters])}){end}",
    NAMES,
    st.lists(FILTERS, max_size=2),
    ENDS,
)


@given(source=EXPRESSIONS.map("{{{{ {} }}}}".format))
def test_any_expression_gives_what_transformers_gives(source: str) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "a b ä"}]
    variables = {"x": {"b": 1, "a": [2.5, None, True]}, "n": 5, "s": "a b", "l": [1]}
    template = ChatTemplate(TokenizerOf(source), lambda: NOW)  # type: ignore[arg-type]
    try:
        theirs = rendered(source, messages, variables)
    except Exception:  # whatever Jinja raises; ours may be kinder, and prints a list where it fails
        with contextlib.suppress(InvalidRequest):
            template.render(messages, variables=variables)
        return
    if "object at 0x" not in theirs:
        assert template.render(messages, variables=variables) == theirs


def test_what_transformers_refuses_is_refused() -> None:
    source = "{{ messages[0].content.nothing.more }}"
    template = ChatTemplate(TokenizerOf(source), lambda: NOW)  # type: ignore[arg-type]
    assert _compared(template, source, "user", CONVERSATIONS["user"])[0] == BOTH_FAIL
