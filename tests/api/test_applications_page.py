"""The configurations that docs/applications.md shows name addresses that a server answers."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.serving import Serving

PAGE = Path(__file__).parents[2] / "docs/applications.md"
READ = {"yaml": yaml.safe_load, "toml": tomllib.loads, "json": json.loads}
ROUTES = {
    "Continue": "/chat/completions",
    "LiteLLM": "/chat/completions",
    "Claude Code": "/v1/messages",
    "Codex": "/responses",
}
"""What each application adds to the address of its configuration."""


def shown() -> dict[str, Any]:
    """Return the configuration of each application, where it has a file of a known format."""
    sections = PAGE.read_text().split("\n## ")[1:]
    found = {}
    for section in sections:
        for kind, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
            if kind in READ:
                found[section.partition("\n")[0]] = READ[kind](text)
    return found


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a configuration."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts(one)


def test_every_configuration_is_known_here() -> None:
    assert set(shown()) == set(ROUTES)


@pytest.mark.parametrize("application", ROUTES)
def test_a_configuration_names_an_address_that_is_served(
    application: str, serving: Serving
) -> None:
    configured = list(texts(shown()[application]))
    assert any("MODEL" in text for text in configured)
    (address,) = (text for text in configured if text.startswith("http"))
    route = (address + ROUTES[application]).removeprefix("http://localhost:8080")
    assert route.count("/v1") == 1
    # A body without anything is refused by the route itself, which an unknown one is not.
    assert serving.post(route, json={}).status_code == 400
