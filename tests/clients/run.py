"""The quick starts of OpenAI's clients against the sample model: `make clients`.

Installs the clients, in the versions that requirements.txt and package.json name, and asks a server
of the sample model by each. Prints which features work, and what failed where one does not. A run
of all clients writes the table of docs/clients.md.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from runtime.sample_model import fetch
from runtime.settings import Settings
from tests.clients.environment import ROOT, Environment, made, versions
from tests.live.server import LiveServer, live_server, options_of
from tests.marked_page import write_between

CACHE_TOKENS = 8192
DOCUMENT = ROOT / "docs/clients.md"
BEGIN, END = "<!-- clients -->", "<!-- /clients -->"


@dataclass(frozen=True)
class Client:
    """A row of the table."""

    name: str
    package: str
    """As `versions` names it."""
    quick_start: str
    """A file of quick_starts/."""


CLIENTS = (
    Client("openai, Python", "openai", "with_openai.py"),
    Client("openai, JavaScript", "npm:openai", "with_openai.mjs"),
    Client("anthropic, Python", "anthropic", "with_anthropic.py"),
    Client("ollama, Python", "ollama", "with_ollama.py"),
    Client("litellm", "litellm", "with_litellm.py"),
    Client("langchain-openai, Python", "langchain-openai", "with_langchain.py"),
    Client("@langchain/openai, JavaScript", "npm:@langchain/openai", "with_langchain.mjs"),
    Client("instructor", "instructor", "with_instructor.py"),
    Client("pydantic-ai", "pydantic-ai-slim", "with_pydantic_ai.py"),
    Client(
        "AI SDK, openai-compatible", "npm:@ai-sdk/openai-compatible", "with_ai_sdk_compatible.mjs"
    ),
    Client("AI SDK, openai", "npm:@ai-sdk/openai", "with_ai_sdk_openai.mjs"),
    Client("llm", "llm", "with_llm.py"),
    Client("haystack", "haystack-ai", "with_haystack.py"),
    Client("smolagents", "smolagents", "with_smolagents.py"),
    Client("outlines", "outlines", "with_outlines.py"),
    Client("lm-evaluation-harness", "lm-eval", "with_lm_eval.py"),
)
COLUMNS = ("chat", "stream", "tools", "structured_output", "completions")
"""Features that most clients have; the others stand in one column."""


@dataclass(frozen=True)
class Asked:
    """What one client's quick start gave."""

    client: Client
    failures: dict[str, str | None]
    """What each feature failed with, or None where it works."""

    def cell(self, feature: str) -> str:
        """A feature's cell of the table."""
        if feature not in self.failures:
            return ""
        return "works" if self.failures[feature] is None else "fails"

    def further(self) -> str:
        """The features that have no column of their own."""
        return ", ".join(
            feature.replace("_", " ") if failure is None else f"{feature.replace('_', ' ')}: fails"
            for feature, failure in self.failures.items()
            if feature not in COLUMNS
        )


def ask(client: Client, environment: Environment, server: LiveServer, seconds: float) -> Asked:
    """Run one client's quick start for at most `seconds`."""
    (model,) = requests.get(f"{server.url}/v1/models", timeout=seconds).json()["data"]
    ending = None
    try:
        ran = subprocess.run(
            environment.command(client.quick_start),
            cwd=ROOT,
            env=environment.variables(server.url, model["id"]),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        output, errors = ran.stdout, ran.stderr
        if ran.returncode:
            ending = f"ended with status {ran.returncode}"
    except subprocess.TimeoutExpired as late:
        output, errors = late.stdout or b"", late.stderr or b""
        ending = f"took more than {seconds:.0f} seconds"
    lines = [line for line in output.decode().splitlines() if line.startswith('{"feature"')]
    failures = {line["feature"]: line["failure"] for line in map(json.loads, lines)}
    if ending:
        failures["ending"] = f"{ending}: {errors.decode()[-2000:]}"
    return Asked(client, failures)


def table(asked: Iterable[Asked]) -> str:
    """A row for each client, in Markdown."""
    known = versions()
    titles = ["client", "version", *(column.replace("_", " ") for column in COLUMNS), "further"]
    rows = [titles, ["---"] * len(titles)]
    rows += [
        [
            one.client.name,
            known[one.client.package],
            *(one.cell(column) for column in COLUMNS),
            one.further(),
        ]
        for one in asked
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def failures_of(asked: Iterable[Asked]) -> list[str]:
    """A line for each feature that failed."""
    return [
        f"{one.client.name}, {feature}: {failure}"
        for one in asked
        for feature, failure in one.failures.items()
        if failure is not None
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 1 where a feature failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the clients' names")
    parser.add_argument("--seconds", type=float, default=300, help="longest that a client may take")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/clients")
    options = parser.parse_args(arguments)
    environment = made(options.folder)
    model = fetch(Settings.from_environment().cache_folder, print)
    asked = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with live_server(model, folder, *options_of(CACHE_TOKENS)) as server:
            for client in CLIENTS:
                if any(part in client.name for part in options.only):
                    asked.append(ask(client, environment, server, options.seconds))
                    print(table(asked[-1:]).splitlines()[-1], flush=True)
    text = table(asked)
    print(text)
    failures = failures_of(asked)
    if len(asked) == len(CLIENTS):
        write_between(DOCUMENT, BEGIN, text, END)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
