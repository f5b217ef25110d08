"""A rendering has one budget of work and memory, whatever its template does."""

import json
import subprocess
import sys
from typing import Any

import pytest

from runtime.chat import ChatTemplate
from runtime.chat.budget import MAX_BYTES, MAX_DEPTH, Budget, Exhausted
from runtime.errors import InvalidRequest
from tests.runtime.chat_attacks import ATTACKS, TokenizerOf
from tests.waiting import SECONDS

ASKED = [{"role": "user", "content": "Hi"}]
MEMORY = 2 * MAX_BYTES + (128 << 20)
"""What a text is joined of, the text, and some for Python itself."""


def template(source: str) -> ChatTemplate:
    return ChatTemplate(TokenizerOf(source))  # type: ignore[arg-type]


@pytest.mark.long
def test_every_attack_ends_with_an_error_of_ours_in_little_memory() -> None:
    command = [sys.executable, "-m", "tests.runtime.chat_attacks", str(MEMORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    ends = {name: end for name, end, _ in map(json.loads, done.stdout.splitlines())}
    assert ends.keys() == ATTACKS.keys()
    wrong = {name: end for name, end in ends.items() if not end.startswith("refused: ")}
    assert not wrong
    assert not [name for name, end in ends.items() if "MemoryError" in end]


def test_a_long_conversation_is_far_from_the_end_of_its_budget() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' and m.content is string %}"
        "{{ '<|im_start|>' + m.role ~ m['content'].strip() | trim }}{% else %}"
        "{{ m.content.split('</think>')[-1] }}{% endif %}{% endfor %}"
    )
    asked = [{"role": "user", "content": 40 * "word "}, {"role": "assistant", "content": "Yes."}]
    assert template(source).render(5000 * asked).count("Yes.") == 5000


def test_what_is_not_looked_at_costs_nothing() -> None:
    # Each message asks for the number of all, and hands all of them to a macro.
    source = (
        "{% macro last(all) %}{{ (all | last).role }}{% endmacro %}"
        "{% for m in messages %}{% if messages | length > loop.index0 %}{{ last(messages) }}"
        "{% endif %}{% endfor %}"
    )
    assert template(source).render(1000 * [{"role": "user", "content": 999 * "x"}])


def test_a_watch_is_called_and_what_it_raises_ends_the_work() -> None:
    class Left(Exception):
        pass

    called: list[int] = []

    def watch(tokens: int) -> None:
        called.append(tokens)
        if len(called) == 3:
            raise Left

    source = "{% for i in range(99999) %}{{ i }}{% endfor %}"
    with pytest.raises(Left):
        template(source).render(ASKED, watch=watch)
    assert called == [0, 0, 0]


def test_a_value_that_is_there_many_times_counts_each_time() -> None:
    budget = Budget()
    value: Any = ["ab"]
    assert budget.size(value) == 2 + 2 + 1
    for _ in range(50):
        value = [value, value]
    assert budget.size(value) > 2**50


def test_a_value_may_be_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> Any:
        value: Any = "x"
        for _ in range(depth):
            value = (value,)
        return value

    assert Budget().size(nested(MAX_DEPTH)) > MAX_DEPTH
    with pytest.raises(Exhausted, match="deeper"):
        Budget().size(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("depth", [100, 500, 900, 5000])
@pytest.mark.parametrize("field", ["tool_calls", "variables", "arguments", "other"])
def test_a_deep_value_of_a_client_is_refused(depth: int, field: str) -> None:
    deep: Any = "x"
    for _ in range(depth):
        deep = [deep]
    message: dict[str, Any] = {"role": "user", "content": "Hi"}
    variables = {"x": deep} if field == "variables" else {}
    if field == "tool_calls":
        message["tool_calls"] = [{"x": deep}]
    if field == "other":
        message["other"] = deep
    if field == "arguments":
        text = depth * "[" + depth * "]"
        message["tool_calls"] = [{"function": {"name": "f", "arguments": text}}]
    with pytest.raises(InvalidRequest, match="nested"):
        template("{{ messages | tojson }}").render([message], variables=variables)


def test_an_error_is_told_in_few_words() -> None:
    with pytest.raises(InvalidRequest) as told:
        template("{{ raise_exception('a ' * 100000) }}").render(ASKED)
    assert len(str(told.value)) < 500
