"""Whether lm-evaluation-harness gets from a server what `rocmforge score` says.

`python -m tests.clients.lm_eval_scores --python PYTHON` takes an interpreter that has lm-eval, by
default that of `make clients`. It runs the quick start in batches of eight, against a server of the
sample model.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import requests

from rocmforge.model import prepared
from runtime.gguf import GGUFFile
from runtime.sample_model import fetch
from runtime.scoring import score
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.clients.environment import ROOT, Environment, made
from tests.live.server import live_server, options_of

SECONDS = 300.0
TOLERANCE = 1e-6
"""Of a sum of logprobs, whose exponentials are float32."""


def asked(environment: Environment, model: Path) -> dict[str, float]:
    """The log-likelihood of each last word, by the text that it ends. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with live_server(model, folder, *options_of(8192)) as server:
            (told,) = requests.get(f"{server.url}/v1/models", timeout=SECONDS).json()["data"]
            ran = subprocess.run(
                environment.command("with_lm_eval.py"),
                cwd=ROOT,
                env=environment.variables(server.url, told["id"]),
                stdout=subprocess.PIPE,
                timeout=SECONDS,
                check=True,
            )
    found: dict[str, float] = {}
    for line in ran.stdout.decode().splitlines():
        if line.startswith('{"feature"'):
            told = json.loads(line)
            assert told["failure"] is None, told
        elif line.startswith('{"loglikelihoods"'):
            found = json.loads(line)["loglikelihoods"]
    return found


def scored(model: Path, texts: Sequence[str], settings: Settings) -> dict[str, float]:
    """The log-likelihood of the last word of each text, as `rocmforge score` has it."""
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(model))
    folder = prepared(str(model), settings)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "logits.npy"
        for text in texts:
            tokens = tokenizer.encode(text)
            given = len(tokenizer.encode(text.rpartition(" ")[0]))
            score(folder, np.array(tokens, np.int32), out, settings, lambda step: None)
            logits = np.load(out).astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            places = range(given, len(tokens))
            found[text] = float(sum(logits[place - 1, tokens[place]] for place in places))
    return found


def differences(found: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
    """How far each text's value is from what is right."""
    return {text: abs(value - right[text]) for text, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 1 where a value differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", type=Path, help="an interpreter that has lm-eval")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/clients")
    options = parser.parse_args(arguments)
    environment = Environment(options.python) if options.python else made(options.folder)
    settings = Settings.from_environment()
    model = fetch(settings.cache_folder, print)
    found = asked(environment, model)
    away = differences(found, scored(model, list(found), settings))
    for text, value in found.items():
        print(f"{value:12.6f}  {away[text]:.1e}  {text}")
    if not found or max(away.values()) > TOLERANCE:
        raise SystemExit("lm-evaluation-harness and `rocmforge score` differ")


if __name__ == "__main__":
    main()
