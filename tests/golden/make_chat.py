"""Write chat.json: prompts and tokens that llama.cpp's server makes of the sample model's template.

Run by hand from the root of the repository, with the extra `peers` installed:

    PYTHONPATH=. python tests/golden/make_chat.py
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from runtime.sample_model import fetch
from runtime.settings import Settings

CONVERSATIONS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": "  Colour of the sky?\n"},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "And of grass? 🌱"},
    ],
]


def main() -> None:
    """Write chat.json beside this file."""
    model = fetch(Settings.from_environment().cache_folder, print)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"model": model, "port": port, "threads": 1, "parallel": 1}
    options |= {"ctx-size": 512, "n-gpu-layers": 0}
    command = [sys.executable, "-m", "pipelines.benchmark.peers"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    server = subprocess.Popen(command)
    try:
        golden = []
        for messages in CONVERSATIONS:
            prompt = _post(port, "apply-template", {"messages": messages})["prompt"]
            asked = {"content": prompt, "add_special": True, "parse_special": True}
            tokens = _post(port, "tokenize", asked)["tokens"]
            golden.append({"messages": messages, "prompt": prompt, "tokens": tokens})
    finally:
        server.terminate()
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    Path(__file__).with_name("chat.json").write_text(text + "\n")


def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    for _ in range(100):
        try:
            answer = requests.post(f"http://127.0.0.1:{port}/{path}", json=body, timeout=30)
        except requests.ConnectionError:
            time.sleep(0.3)
            continue
        if answer.ok:
            given: dict[str, Any] = answer.json()
            return given
        time.sleep(0.3)
    raise SystemExit("llama.cpp's server did not answer")


if __name__ == "__main__":
    main()
