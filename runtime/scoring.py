"""Logits of a whole token sequence, for perplexity and for comparison with other programs."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidRequest
from runtime.files import replacing
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs


def read_tokens(path: Path) -> NDArray[np.int32]:
    """Read token ids [T] from a .npy file. Raises InvalidRequest for other contents."""
    try:
        tokens = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidRequest(f"{path} cannot be read as an .npy array: {error}") from None
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InvalidRequest(f"{path} must hold one array of integers with one axis")
    if tokens.size == 0:
        raise InvalidRequest(f"{path} holds no token")
    if tokens.min() < 0 or tokens.max() > np.iinfo(np.int32).max:
        raise InvalidRequest(f"{path} holds a number that is no token id")
    return tokens.astype(np.int32)


def score(
    folder: Path,
    tokens: NDArray[np.int32],
    out: Path,
    settings: Settings,
    report: Callable[[str], None],
) -> None:
    """Write the logits of `tokens` i32 [T] to `out`, float32 [T, vocabulary], in chunks.

    Each step computes settings.token_budget tokens; the sequence has all pages.
    Raises InvalidRequest for a sequence that the model cannot take or a file that cannot be
    written; `out` appears only when it is complete.
    """
    page_count = -(-len(tokens) // settings.page_size)
    settings = msgspec.structs.replace(settings, cache_tokens=page_count * settings.page_size)
    session = Session(folder, settings=settings)
    manifest = session.manifest
    manifest.expect_text()
    if len(tokens) > manifest.context_length:
        raise InvalidRequest(
            f"{len(tokens)} tokens are more than the model's context of {manifest.context_length}"
        )
    if tokens.max() >= manifest.vocabulary_size:
        raise InvalidRequest(
            f"token {tokens.max()} is outside the vocabulary of {manifest.vocabulary_size}"
        )
    try:
        with replacing(out) as file:
            logits = np.lib.format.open_memmap(
                file.name,
                mode="w+",
                dtype=np.float32,
                shape=(len(tokens), manifest.vocabulary_size),
            )
            for start in range(0, len(tokens), settings.token_budget):
                end = min(start + settings.token_budget, len(tokens))
                report(f"Scoring tokens {start} to {end - 1} of {len(tokens)}")
                logits[start:end] = session.run(
                    StepInputs(
                        token_ids=tokens[start:end],
                        positions=np.arange(start, end, dtype=np.int32),
                        row_starts=np.array([0, end - start], dtype=np.int32),
                        page_table=np.arange(page_count, dtype=np.int32)[None, :],
                        logit_rows=np.arange(end - start, dtype=np.int32),
                    )
                )
            logits.flush()
    except OSError as error:
        raise InvalidRequest(f"{out} cannot be written: {error.strerror}") from None
