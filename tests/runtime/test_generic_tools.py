"""Tools for templates without support: described in words, with calls and results as text."""

from runtime.chat.generic_tools import with_tools
from tests.runtime.conversations import CALLING, RESULT, SYSTEM, TOOLS, USER

CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def test_tools_are_told_in_the_system_message() -> None:
    (first, second) = with_tools([SYSTEM, USER], TOOLS, "system")
    assert first["content"].startswith("Be brief.\n\nYou may call functions")
    assert '"name":"add"' in first["content"]
    assert second == USER
    assert with_tools([USER], TOOLS, "system")[0]["role"] == "system"


def test_tools_are_told_by_the_user_where_there_is_no_system_message() -> None:
    for template in ("user", "system: raise_exception('System role not supported')"):
        (only,) = with_tools([USER], TOOLS, template)
        assert only["role"] == "user"
        assert only["content"].endswith("</tool_response>.\n\nHi")


def test_calls_and_results_are_texts() -> None:
    _, user, call, result = with_tools([USER, CALLING, RESULT], TOOLS, "system")
    assert user == USER
    assert (call["content"], call["tool_calls"]) == (CALLED, None)
    assert result == {"role": "user", "content": "<tool_response>\n2\n</tool_response>"}
