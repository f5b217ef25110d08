"""Which execution provider serves a card, by the installed package."""

import onnxruntime
import pytest

from runtime.device.provider import OWN_PROVIDER, ROCM_PROVIDER, Choice, choose_provider
from runtime.errors import DeviceError


def install(monkeypatch: pytest.MonkeyPatch, version: str, *providers: str) -> None:
    """Let ONNX Runtime say that it is another package."""
    monkeypatch.setattr(onnxruntime, "__version__", version)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(providers))


@pytest.mark.parametrize("architecture", ["gfx942", "gfx1100", "gfx1201"])
def test_the_package_for_rocm_serves_cards_that_it_has_kernels_for(
    monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    install(monkeypatch, "1.22.2", ROCM_PROVIDER, "CPUExecutionProvider")
    choice = choose_provider(architecture)
    assert choice == Choice(ROCM_PROVIDER, "onnxruntime-rocm 1.22.2 has kernels for it")


@pytest.mark.parametrize("architecture", ["gfx1103", "gfx1151", "gfx950"])
def test_for_another_card_it_has_to_be_replaced(
    monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    install(monkeypatch, "1.22.2", ROCM_PROVIDER, "CPUExecutionProvider")
    message = f"onnxruntime-rocm 1.22.2 has no kernels for {architecture}: install `onnxruntime`"
    with pytest.raises(DeviceError, match=message):
        choose_provider(architecture)


@pytest.mark.parametrize("version", ["1.24.1", "1.32.0", "2.0.0"])
def test_our_provider_serves_every_card_on_a_newer_onnxruntime(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    install(monkeypatch, version, "AzureExecutionProvider", "CPUExecutionProvider")
    for architecture in ("gfx942", "gfx1151"):
        assert choose_provider(architecture).provider == OWN_PROVIDER


def test_an_older_onnxruntime_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "1.23.2", "CPUExecutionProvider")
    with pytest.raises(DeviceError, match=r"onnxruntime 1\.23\.2 takes no execution provider"):
        choose_provider("gfx942")
