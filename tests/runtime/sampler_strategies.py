"""Parameters and logits of samplers for hypothesis."""

import numpy as np
from hypothesis import strategies as st

from runtime.sampling import SAMPLERS, SamplingParameters

SPECIAL = (0.0, -0.0, -np.inf, 1e-45, -1e-45, 3e38, -3e38)


def parameters_of_all_samplers() -> st.SearchStrategy[SamplingParameters]:
    """Each sampler on or off, in llama.cpp's order or in another."""
    share = st.just(1.0) | st.floats(0.01, 1.0)
    return st.builds(
        SamplingParameters,
        temperature=st.just(0.0) | st.floats(0.1, 2.0),
        dynatemp_range=st.just(0.0) | st.floats(0.1, 1.0),
        dynatemp_exponent=st.floats(0.0, 3.0),
        top_k=st.integers(0, 40),
        top_p=share,
        typical_p=share,
        min_p=st.just(0.0) | st.floats(0.001, 0.5),
        top_n_sigma=st.just(0.0) | st.floats(0.3, 3.0),
        xtc_probability=st.sampled_from((0.0, 0.5, 1.0)),
        xtc_threshold=st.floats(0.01, 0.6),
        seed=st.integers(0, 2**64 - 1),
        samplers=st.just(SAMPLERS) | st.permutations(SAMPLERS[2:]).map(tuple),
    )


def rows_of(size: int) -> st.SearchStrategy[np.ndarray]:
    """Logits of a coarse grid, among which many are equal, or of none."""
    return st.builds(
        lambda seed, grid, width: (
            np.round(np.random.default_rng(seed).standard_normal(size) * width * grid).astype(
                np.float32
            )
            / np.float32(grid)
        ),
        st.integers(0, 2**32),
        st.sampled_from((1, 8, 1 << 12)),
        st.floats(0.5, 5.0),
    )


def special_rows_of(size: int) -> st.SearchStrategy[np.ndarray]:
    """The same or all equal, with some logits that are minus infinity, tiny, huge or a zero."""
    return st.builds(
        lambda row, seed, share, flat: _with_special(row * (not flat), seed, share),
        rows_of(size),
        st.integers(0, 2**32),
        st.sampled_from((0.0, 0.0, 0.05, 0.9)),
        st.booleans(),
    )


def _with_special(row: np.ndarray, seed: int, share: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    is_special = random.random(row.size) < share
    found = np.where(is_special, random.choice(SPECIAL, row.size), row).astype(np.float32)
    found[0] = row[0]  # one is finite
    return found
