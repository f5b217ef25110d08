"""Write embeddings.npz: what llama.cpp gives for a text in a tiny random model of each encoder.

Run by hand from the root of the repository, where `pip install llama-cpp-python gguf` was done:

    PYTHONPATH=. python tests/golden/make_embeddings.py

Each array is float32 [width]: the pooled row of golden_tokens, not normalized.
"""

import tempfile
from pathlib import Path

import numpy as np
from llama_cpp import GGML_TYPE_F32, Llama, llama_get_embeddings_seq, llama_set_embeddings

from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import golden_tokens, write_tiny_model


def pooled(path: Path, context: int, tokens: list[int], width: int) -> np.ndarray:
    """The pooled row [width] of a text."""
    model = Llama(
        str(path),
        n_ctx=context,
        n_batch=context,
        n_ubatch=context,
        n_threads=1,
        logits_all=True,
        type_k=GGML_TYPE_F32,
        type_v=GGML_TYPE_F32,
        verbose=False,
    )
    llama_set_embeddings(model._ctx.ctx, True)
    model._batch.reset()
    model._batch.add_sequence(tokens, 0, logits_all=True)
    model._ctx.decode(model._batch)
    return np.array(llama_get_embeddings_seq(model._ctx.ctx, 0)[:width], np.float32)


def main() -> None:
    """Write embeddings.npz beside this file."""
    golden: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, tiny in TINY_ENCODERS.items():
            path = write_tiny_model(Path(folder) / f"{name}.gguf", tiny)
            width = len(tiny.classes) or tiny.embedding
            golden[name] = pooled(path, tiny.context, golden_tokens(), width)
    target = Path(__file__).with_name("embeddings.npz")
    np.savez_compressed(target, allow_pickle=False, **golden)


if __name__ == "__main__":
    main()
