"""We are no further from the exact logits than llama.cpp is, whatever the family and the format.

llama.cpp's divergences stand in golden/exactness.json; docs/exactness.md has more positions.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.exact_models import POSITIONS, exact_model, exact_models, exact_tokens
from tests.exactness import ZERO, divergences, exact_logits, our_logits
from tests.tiny_models import write_tiny_model

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "exactness.json").read_text())

CASES = [case for case in exact_models() if case[1] != "Q8_0" or case[0] == "llama"]


@pytest.mark.parametrize(("name", "format"), CASES)
def test_logits_are_as_exact_as_llama_cpps(tmp_path: Path, name: str, format: str) -> None:
    model = exact_model(name, format)
    path = write_tiny_model(tmp_path / "model.gguf", model)
    tokens = exact_tokens(POSITIONS)
    ours = divergences(exact_logits(path, tokens), our_logits(path, tokens, tmp_path))
    # Where rounding makes another expert the best, a mean is that of a few positions.
    statistic = "median" if model.experts else "mean"
    expected = GOLDEN[f"{name}/{format}"][statistic]
    assert float(getattr(np, statistic)(ours)) <= max(expected, ZERO)
