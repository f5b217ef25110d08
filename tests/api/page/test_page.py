"""The page at /, used as a person does: in headless Chromium, on a real server."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.model_pool import LoadableModel
from runtime.manifest import Manifest
from tests.api.conftest import Serve
from tests.api.page.conftest import Open
from tests.api.saying import Says
from tests.api.serving import Serving
from tests.waiting import eventually

pytestmark = pytest.mark.slow
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
PHONE = {"viewport": {"width": 390, "height": 844}}
KEY = "a-key-for-people-of-this-test"


def say(page: Any, text: str = "hello") -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def answer(page: Any) -> str:
    """The text of the last answer, once it is whole."""
    page.wait_for_selector(".message:last-child.assistant[aria-busy=false]")
    text: str = page.locator(".assistant .content").last.inner_text()
    return text


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.locator(selector).all_inner_texts()
    return found


def set_field(page: Any, name: str, value: str) -> None:
    page.fill(f"#options [name={name}]", value)


def test_an_answer_is_shown_with_its_figures(says: Says, opened: Open) -> None:
    page = opened(says("Hi there, friend."))
    say(page)
    assert answer(page) == "Hi there, friend."
    assert page.locator(".user .content").inner_text() == "hello"
    figures = page.locator(".figures").last.inner_text()
    assert "tokens/s" in figures
    assert "first after" in figures
    assert page.title().startswith("hello")


def test_text_is_never_html(says: Says, opened: Open) -> None:
    text = '<img src="x" onerror="document.title=1"><b>bold</b> & <script>1</script>'
    page = opened(says(text))
    say(page, text)
    assert answer(page) == text
    assert page.locator("#messages img, #messages b, #messages script").count() == 0


def test_blocks_of_code_are_set_apart(says: Says, opened: Open) -> None:
    page = opened(says("So:\n```python\nx = 1\n```\nDone with `x`."))
    say(page)
    answer(page)
    assert page.locator("figcaption span").inner_text() == "python"
    assert page.locator("pre code").inner_text() == "x = 1"
    assert page.locator(".text code").inner_text() == "x"


def test_a_stopped_answer_keeps_its_text_and_ends_the_request(
    serving: Serving, opened: Open
) -> None:
    page = opened(serving)
    serving.session.hold()
    say(page)
    eventually(lambda: serving.services.statistics().active == 1)
    page.click("#stop")
    page.wait_for_selector("#send:visible")
    serving.session.let_go()
    eventually(lambda: serving.services.statistics().cancelled == 1)


def test_an_answer_can_be_made_again_and_a_message_edited(says: Says, opened: Open) -> None:
    page = opened(says("Hi."))
    say(page)
    answer(page)
    page.click("text=Regenerate")
    assert answer(page) == "Hi."
    page.click("text=Edit")
    page.fill(".user textarea", "hellp")
    page.click(".user button.primary")
    answer(page)
    assert page.locator(".user .content").inner_text() == "hellp"
    assert page.locator(".message").count() == 2


def test_probabilities_are_shown_to_the_pointer_and_to_the_keyboard(
    says: Says, opened: Open
) -> None:
    page = opened(says("Hi."))
    say(page)
    answer(page)
    page.click("text=Probabilities")
    page.hover(".token >> nth=0")
    assert "H" in page.locator("#candidates .chosen").inner_text()
    page.mouse.move(0, 0)
    assert page.locator("#candidates").is_hidden()
    page.focus(".tokens")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#announced").inner_text().startswith("i: ")


def test_conversations_are_kept_in_the_browser(says: Says, opened: Open) -> None:
    serving = says("Hi.")
    page = opened(serving)
    say(page)
    answer(page)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator(".assistant .content").inner_text() == "Hi."
    assert "tokens · " in page.locator(".figures").last.inner_text()
    page.click("#new")
    assert page.locator(".message").count() == 0
    page.click("nav .open")
    assert page.locator(".message").count() == 2
    page.click("nav .remove")
    assert page.locator(".message").count() == 0
    assert page.evaluate("localStorage['rocmforge.conversations']") == "[]"


def test_the_settings_have_the_ranges_of_the_server_and_are_sent(
    serving: Serving, opened: Open
) -> None:
    page = opened(serving)
    temperature = page.locator("#options [name=temperature]")
    assert temperature.get_attribute("max") == "2"
    set_field(page, "temperature", "0.5")
    set_field(page, "max_tokens", "3")
    set_field(page, "system", "Be brief.")
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page)
    body = json.loads(sent.value.post_data)
    assert (body["temperature"], body["max_tokens"]) == (0.5, 3)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    answer(page)
    assert "3 tokens" in page.locator(".figures").last.inner_text()
    assert "cut at the limit" in page.locator(".figures").last.inner_text()


def test_an_answer_can_be_held_to_a_schema(serving: Serving, opened: Open) -> None:
    page = opened(serving)
    set_field(page, "schema", '{"const": "yes"}')
    say(page)
    assert answer(page) == '"yes"'


def test_what_is_no_json_is_named_and_nothing_is_sent(serving: Serving, opened: Open) -> None:
    page = opened(serving)
    set_field(page, "schema", "{")
    say(page)
    assert "JSON schema cannot be read" in page.locator("#error").inner_text()
    assert page.locator("[name=schema]").get_attribute("aria-invalid") == "true"
    assert serving.services.statistics().started == 0
    set_field(page, "schema", '{"const": "yes"}')
    page.click("text=Send again")
    assert answer(page) == '"yes"'


def test_a_refusal_of_the_server_is_shown(serving: Serving, opened: Open) -> None:
    page = opened(serving)
    set_field(page, "temperature", "9")
    say(page)
    page.wait_for_selector("#error:visible")
    assert "temperature must be between" in page.locator("#error").inner_text()


def test_calls_of_tools_are_answered_by_hand(says: Says, opened: Open) -> None:
    page = opened(says(CALL))
    set_field(page, "tools", '[{"name": "weather", "parameters": {"type": "object"}}]')
    say(page)
    page.wait_for_selector(".call")
    assert page.locator(".call strong").inner_text() == "weather"
    assert json.loads(page.locator(".call pre").inner_text()) == {"city": "Rome"}
    page.fill(".call textarea", "sunny")
    with page.expect_request("**/v1/chat/completions") as sent:
        page.click("text=Send results")
    *_, said, result = json.loads(sent.value.post_data)["messages"]
    assert said["tool_calls"][0]["id"] == result["tool_call_id"]
    assert (result["role"], result["content"]) == ("tool", "sunny")


def test_a_key_is_sent_and_kept_for_the_tab_alone(serve: Serve, opened: Open) -> None:
    page = opened(serve(api_keys=f"me={KEY}"))
    say(page)
    page.wait_for_selector("#error:visible")
    assert "API key" in page.locator("#error").inner_text()
    page.fill("#key", KEY)
    page.press("#key", "Tab")
    page.wait_for_selector("#model option[value=tiny]", state="attached")
    set_field(page, "max_tokens", "2")
    say(page)
    answer(page)
    assert page.locator("#error").is_hidden()
    assert KEY not in page.evaluate("JSON.stringify(localStorage)")


def test_the_state_of_the_server_is_followed(serving: Serving, opened: Open) -> None:
    page = opened(serving)
    serving.session.allow(1)
    with serving.stream(max_tokens=5):
        page.wait_for_selector("#pulse:text-is('1 running')")
        assert "1 of" in page.locator("#live").inner_text()
        serving.session.let_go()
    page.wait_for_selector("#pulse:text-is('ready')")
    shown = dict(zip(texts(page, "#live dt"), texts(page, "#live dd"), strict=True))
    assert (shown["Model"], shown["In memory"], shown["Context"]) == (
        "tiny",
        "loaded",
        "256 tokens",
    )
    assert (shown["Queued"], shown["KL from exact"]) == ("0", "not measured")


def test_another_model_is_asked_by_its_name(serving: Serving, prepared: Path, opened: Open) -> None:
    loadable = LoadableModel("tiny", Manifest.read(prepared), 0, lambda: serving.model)
    serving.services.pool.publish([loadable], {"gpt": "tiny"})
    page = opened(serving)
    page.select_option("#model", "gpt")
    page.wait_for_selector("#live dt:text-is('Alias')")
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page)
    assert json.loads(sent.value.post_data)["model"] == "gpt"


def test_on_a_phone_one_part_is_shown_at_a_time(serving: Serving, opened: Open) -> None:
    page = opened(serving, **PHONE)
    assert page.locator("#settings").is_hidden()
    page.click("#toggle-settings")
    assert page.locator("#settings").is_visible()
    page.click("#toggle-conversations")
    assert page.locator("#settings").is_hidden()
    page.keyboard.press("Escape")
    assert page.locator("#conversations").is_hidden()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["viewport"]["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", [{}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(
    says: Says, opened: Open, axe: str, scheme: str, view: dict[str, Any]
) -> None:
    page = opened(says("So:\n```python\nx = 1\n```\nDone."), color_scheme=scheme, **view)
    assert serious(page, axe) == []
    say(page)
    answer(page)
    assert serious(page, axe) == []
    page.click("text=Probabilities")
    assert serious(page, axe) == []
    for part in ("conversations", "settings"):
        if page.locator(f"#{part}").is_hidden():
            page.click(f"#toggle-{part}")
            assert serious(page, axe) == []


def serious(page: Any, axe: str) -> list[str]:
    """What axe-core finds serious or critical, with where."""
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": axe})
    run = "axe.run().then(found => JSON.stringify(found.violations))"
    found = session.send("Runtime.evaluate", {"expression": run, "awaitPromise": True})
    return [
        f"{each['id']}: {each['nodes'][0]['html']} {each['nodes'][0].get('failureSummary')}"
        for each in json.loads(found["result"]["value"])
        if each["impact"] in ("serious", "critical")
    ]
