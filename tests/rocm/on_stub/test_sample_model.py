"""The sample model through the engine on the ROCm provider: llama.cpp's greedy text."""

import json
from pathlib import Path

import pytest

from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.sample_model import fetch
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from tests.golden.agreement import agree
from tests.rocm.placement import on_cpu
from tests.rocm.stub_device import StubDevice

GOLDEN = Path(__file__).parents[2] / "golden" / "greedy.json"
PROMPTS, TOKENS = 2, 12
"""As many as NumPy computes in half a minute."""


@pytest.mark.sample
def test_greedy_text_is_llama_cpps_until_a_near_tie(tmp_path: Path, device: StubDevice) -> None:
    folder = tmp_path / "sample"
    folder.mkdir()
    cache = Settings.from_environment().cache_folder
    convert(Source(fetch(cache, lambda step: None)), folder, "sample")
    settings = Settings(
        home=tmp_path / "home", device="rocm", cache_tokens=512, token_budget=16, threads=2
    )
    session = Session(folder, settings=settings, profile_prefix=tmp_path / "profile")
    before = device.count("unknown launches")
    engine = Engine(session, end_of_generation=frozenset(), settings=settings)
    engine.start()
    for entry in json.loads(GOLDEN.read_text())[:PROMPTS]:
        agree(engine, entry, TOKENS)
    engine.stop()
    assert on_cpu(session.end_profiling()) == []
    assert device.count("unknown launches") == before
    layers = session.manifest.page_layout.layers
    assert device.launches["rotary_page_write"] % layers == 0
    assert device.launches["one_row.q4_1"] > 0
