"""Sends what schemathesis makes of /openapi.json to a served tiny model: ARGUMENTS of its `run`.

Fails on a 5xx, and on an answer with a status, media type or body that the document does not have.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from api.app import create_app
from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
GAP = {f"tokenizer.ggml.fim_{key}_token_id": 100 + n for n, key in enumerate(("pre", "suf", "mid"))}
"""Tokens that stand for those of a code model, so that /infill answers."""
CONTEXT = 64
"""Short, so that a request without a limit ends soon."""


def program() -> str | None:
    """The path of schemathesis, beside this Python or elsewhere."""
    beside = Path(sys.executable).parent
    return shutil.which("schemathesis", path=str(beside)) or shutil.which("schemathesis")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A served tiny model; gives its URL."""
    gguf = write_tiny_llama(folder / "tiny.gguf", context=CONTEXT, metadata=GAP)
    prepared = folder / "prepared"
    prepared.mkdir()
    convert(Source(gguf), prepared, "tiny")
    settings = Settings(home=folder / "home", port=0, cache_tokens=1024, threads=1)
    services = Services(settings=settings)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(gguf))
    engine = Engine(
        Session(prepared, settings=settings),
        end_of_generation=tokenizer.end_of_generation,
        settings=settings,
        observer=services,
        request_ids=services.request_ids,
    )
    engine.start()
    model = ServedModel("tiny", engine, tokenizer)
    services.served.load(lambda: model)
    server = Server(create_app(services), settings)
    server.start()
    try:
        yield server.url
    finally:
        engine.stop()
        server.close()


def asking_for_the_model(url: str) -> Any:
    """The document, in which bodies can name no model but the one that is served."""
    document = requests.get(f"{url}/openapi.json", timeout=30).json()
    for schema in document["components"]["schemas"].values():
        if "model" in (fields := schema.get("properties", {})) and "default" in fields["model"]:
            fields["model"] = {"enum": ["tiny", None], "default": None}
    return document


def check(arguments: Sequence[str], output: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a tiny model and return how it ended; `output` as in subprocess."""
    found = program()
    assert found is not None, "schemathesis is not installed"
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url:
        document = Path(folder) / "openapi.json"
        document.write_text(json.dumps(asking_for_the_model(url)))
        command = [found, "run", str(document), "--url", url]
        command += ["--checks", ",".join(CHECKS), *arguments]
        return subprocess.run(command, cwd=folder, text=True, stdout=output)


if __name__ == "__main__":
    sys.exit(check(sys.argv[1:]).returncode)
