"""Write logits.npz: what llama.cpp computes for a tiny random model of every architecture.

Run by hand from the root of the repository, where `pip install llama-cpp-python gguf` was done:

    PYTHONPATH=. python tests/golden/make_logits.py

Each array is float32 [GOLDEN_ROWS, vocabulary]: the logits after the last of golden_tokens. The
cache is kept in float32, so these are exact but for the order of additions.
"""

import tempfile
from pathlib import Path

import numpy as np
from llama_cpp import GGML_TYPE_F32, Llama

from tests.tiny_models import GOLDEN_ROWS, TINY_MODELS, golden_tokens, write_tiny_model


def logits(path: Path, context: int, tokens: list[int], cache: int = GGML_TYPE_F32) -> np.ndarray:
    """All logits [T, vocabulary] of a sequence; `cache` is the type of the cache's numbers."""
    model = Llama(
        str(path),
        n_ctx=context,
        n_batch=context,
        n_threads=1,
        logits_all=True,
        yarn_beta_fast=-1.0,  # what the file says, not the defaults of this binding
        yarn_beta_slow=-1.0,
        type_k=cache,
        type_v=cache,
        verbose=False,
    )
    model.eval(tokens)
    return np.array(model.scores[: len(tokens)], np.float32)


def main() -> None:
    """Write logits.npz beside this file."""
    golden: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, tiny in TINY_MODELS.items():
            path = write_tiny_model(Path(folder) / f"{name}.gguf", tiny)
            golden[name] = logits(path, tiny.context, golden_tokens())[-GOLDEN_ROWS:]
    np.savez_compressed(Path(__file__).with_name("logits.npz"), allow_pickle=False, **golden)


if __name__ == "__main__":
    main()
