"""The page pool takes what is left of the GPU's memory; too little is said with numbers."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from api.resources.health import checks
from api.served_models import ServedModel
from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.errors import DeviceError
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import largest_step
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama
from tests.rocm.stub_device import StubDevice

MEBIBYTE = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    convert(Source(write_tiny_llama(tmp_path / "tiny.gguf")), folder, "tiny")
    return folder


@pytest.fixture
def gpu_settings(tmp_path: Path, device: StubDevice) -> Settings:
    device.set_memory(64 * MEBIBYTE)
    return Settings(home=tmp_path / "home", device="rocm", token_budget=32, threads=1)


def test_the_pool_fills_the_share_that_is_asked_for(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    for share in (0.9, 0.5):
        settings = msgspec.structs.replace(gpu_settings, gpu_memory_utilization=share)
        session = Session(model, settings=settings)
        memory = session.gpu_memory()
        assert memory is not None
        assert memory.total_bytes == 64 * MEBIBYTE
        used = memory.total_bytes - memory.free_bytes
        page_bytes = session.manifest.page_layout.bytes_per_token() * settings.page_size
        assert share * memory.total_bytes - page_bytes < used <= share * memory.total_bytes
        assert session.page_count * page_bytes > 0.5 * used
        del session


def test_the_memory_is_free_again_when_a_session_ends(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    before = device.count("bytes used")
    session = Session(model, settings=gpu_settings)
    assert device.count("bytes used") > before
    del session
    assert device.count("bytes used") == before


def test_two_sessions_share_the_gpu(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    settings = msgspec.structs.replace(gpu_settings, cache_tokens=64)
    step = largest_step(8, 8, 1)
    first = Session(model, settings=settings)
    alone = first.run(step).copy()
    second = Session(model, settings=settings)
    np.testing.assert_array_equal(second.run(step), alone)
    np.testing.assert_array_equal(first.run(step), alone)


def test_health_shows_the_gpu_and_its_memory(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    session = Session(model, settings=gpu_settings)
    engine = Engine(session, end_of_generation=frozenset(), settings=gpu_settings)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(session.manifest.weights_path(model)))
    served = ServedModel("tiny", engine, tokenizer, session.gpu_memory)
    found = checks(served, engine.statistics())
    assert found["gpu"]["available"]
    memory = found["gpu"]["memory"]
    assert memory["total_mb"] == 64
    assert memory["utilization_percent"] == 89  # 0.9 less what is not a whole page
    assert found["cache"]["pages_total"] == session.page_count


def test_a_number_of_tokens_is_taken_as_it_is(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    settings = msgspec.structs.replace(gpu_settings, cache_tokens=100)
    assert Session(model, settings=settings).page_count == 7


def test_too_little_memory_for_the_weights(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    device.set_memory(device.count("bytes used") + 10_000)
    with pytest.raises(DeviceError, match=r"need 1 MiB of GPU memory more, 1 of \d+ MiB are free"):
        Session(model, settings=gpu_settings)


def test_too_little_memory_for_a_step(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    settings = msgspec.structs.replace(gpu_settings, token_budget=4096)
    device.set_memory(device.count("bytes used") + 3 * MEBIBYTE)
    with pytest.raises(DeviceError, match=r"a step of 4096 tokens cannot be computed.*lower"):
        Session(model, settings=settings)


def test_too_little_memory_for_a_cache(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    settings = msgspec.structs.replace(gpu_settings, gpu_memory_utilization=1e-5)
    with pytest.raises(DeviceError, match=r"keeps 64 MiB of them; a step of 32 tokens alone"):
        Session(model, settings=settings)


def test_a_cache_that_is_too_large(model: Path, gpu_settings: Settings, device: StubDevice) -> None:
    settings = msgspec.structs.replace(gpu_settings, cache_tokens=10_000_000)
    with pytest.raises(DeviceError, match=r"the KV cache takes \d+ MiB of GPU memory.*memory"):
        Session(model, settings=settings)
