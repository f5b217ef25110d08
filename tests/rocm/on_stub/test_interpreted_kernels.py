"""The Triton sources on the launcher's own arguments: the whole way but for compiler and GPU."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from pipelines.conversion.convert import convert
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from tests.ops.gpu.interpreter import run_program_by_program
from tests.rocm.kernels import Kernels, Launch
from tests.rocm.on_stub.test_models import MOST_ERROR, rows
from tests.rocm.stub_device import StubDevice
from tests.tiny_models import TINY_MODELS, write_tiny_model

# A prompt beside a short one; one token alone.
STEPS = (rows((0, 7), (0, 2), pages=1), rows((7, 8), pages=1))


class InterpretedKernels:
    """Runs a launch in Triton's interpreter, on the memory that its pointers name."""

    def run(self, launch: Launch) -> None:
        name = f"{launch.kernel}.{launch.variant}" if launch.variant else launch.kernel
        run_program_by_program(name, launch.grid, list(vars(launch.arguments).values()))


def test_the_sources_compute_what_their_definitions_do(tmp_path: Path, device: StubDevice) -> None:
    folder = tmp_path / "prepared"
    folder.mkdir()
    # Of all tiny models the one with the most: sinks, biases, experts and a window.
    model = replace(TINY_MODELS["gpt-oss"], layers=1, format="Q8_0")
    convert(Source(write_tiny_model(tmp_path / "tiny.gguf", model)), folder, "tiny")
    settings = Settings(
        home=tmp_path / "home", device="rocm", cache_tokens=256, token_budget=16, threads=1
    )
    logits = []
    for kernels in (Kernels(), InterpretedKernels()):
        device.compute_with(kernels)
        session = Session(folder, settings=settings)
        logits.append([session.run(step).copy() for step in STEPS])
    exact = Session(folder, settings=msgspec.structs.replace(settings, device="cpu"))
    for defined, interpreted, step in zip(*logits, STEPS, strict=True):
        expected = exact.run(step)
        assert np.abs(interpreted - defined).max() < MOST_ERROR * defined.std()
        # The CPU's activations of 8 bits may choose another expert for a token.
        assert np.median(np.abs(defined - expected)) < MOST_ERROR * expected.std()
