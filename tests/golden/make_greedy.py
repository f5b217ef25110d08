"""Write greedy.json: what llama.cpp generates from the sample model, greedily.

Run by hand, where `pip install llama-cpp-python` has been done:

    python tests/golden/make_greedy.py SAMPLE.gguf

Each entry has a prompt, its tokens, the tokens that follow, and at each of them the margin between
the best two logits: where it is small (a near-tie) another exact implementation may go elsewhere.
"""

import json
import sys
from pathlib import Path

import numpy as np
from llama_cpp import Llama

TOKENS = 48
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "Water boils at a temperature of",
    "<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
]


def generate(model: Llama, prompt: str) -> dict[str, object]:
    """Follow the most likely token, with the margin of each choice."""
    prompt_tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
    model.reset()  # type: ignore[no-untyped-call, unused-ignore]
    model.eval(prompt_tokens)
    tokens: list[int] = []
    margins: list[float] = []
    while len(tokens) < TOKENS and model.token_eos() not in tokens:
        logits = model.scores[model.n_tokens - 1]
        second, first = np.sort(logits)[-2:]
        tokens.append(int(np.argmax(logits)))
        margins.append(round(float(first - second), 4))
        model.eval(tokens[-1:])
    return {"prompt": prompt, "prompt_tokens": prompt_tokens, "tokens": tokens, "margins": margins}


def main() -> None:
    """Write greedy.json beside this file."""
    model = Llama(sys.argv[1], n_ctx=1024, logits_all=True, verbose=False)
    entries = [generate(model, prompt) for prompt in PROMPTS]
    path = Path(__file__).with_name("greedy.json")
    path.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")


if __name__ == "__main__":
    main()
