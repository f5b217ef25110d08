"""The page pool takes what is left of the GPU's memory; too little is said with numbers."""

from pathlib import Path

import msgspec
import pytest

from pipelines.convert import convert
from runtime.errors import DeviceError
from runtime.session import Session
from runtime.settings import Settings
from tests.models import write_tiny_llama
from tests.rocm.stub_device import StubDevice

MEBIBYTE = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    convert(write_tiny_llama(tmp_path / "tiny.gguf"), folder, "tiny")
    return folder


@pytest.fixture
def gpu_settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", device="rocm", token_budget=32, threads=1)


def test_the_pool_fills_the_share_that_is_asked_for(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    for share in (0.9, 0.5):
        settings = msgspec.structs.replace(gpu_settings, gpu_memory_utilization=share)
        device.set_memory(64 * MEBIBYTE)
        session = Session(model, settings=settings)
        memory = session.gpu_memory()
        assert memory is not None
        assert memory.total_bytes == 64 * MEBIBYTE
        used = memory.total_bytes - memory.free_bytes
        page_bytes = session.manifest.page_layout.bytes_per_token() * settings.page_size
        assert share * memory.total_bytes - page_bytes < used <= share * memory.total_bytes
        assert session.page_count * page_bytes > 0.8 * used
        del session


def test_the_memory_is_free_again_when_a_session_ends(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    before = device.count("bytes used")
    session = Session(model, settings=gpu_settings)
    assert device.count("bytes used") > before
    del session
    assert device.count("bytes used") == before


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


def test_too_little_memory_for_a_cache(
    model: Path, gpu_settings: Settings, device: StubDevice
) -> None:
    settings = msgspec.structs.replace(gpu_settings, gpu_memory_utilization=1e-5)
    with pytest.raises(DeviceError, match=r"keeps 8192 MiB of them; a step of 32 tokens alone"):
        Session(model, settings=settings)


def test_a_cache_that_is_too_large(model: Path, gpu_settings: Settings, device: StubDevice) -> None:
    device.set_memory(64 * MEBIBYTE)
    settings = msgspec.structs.replace(gpu_settings, cache_tokens=10_000_000)
    with pytest.raises(DeviceError, match=r"the KV cache takes \d+ MiB of GPU memory.*memory"):
        Session(model, settings=settings)
