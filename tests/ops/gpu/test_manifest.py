"""The manifest of compiled kernels as a session reads it."""

from pathlib import Path

import pytest

from runtime.errors import DeviceError
from runtime.ops.gpu.manifest import MANIFEST_NAME, KernelManifest
from runtime.ops.gpu.variants import TARGETS, variants


def test_without_compiled_kernels_there_is_no_manifest(tmp_path: Path) -> None:
    assert KernelManifest.read(tmp_path) is None


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text('{"version": 0, "triton": "1", "targets": {}}')
    with pytest.raises(DeviceError, match="make gpu-kernels"):
        KernelManifest.read(tmp_path)


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text('{"version": 1')
    with pytest.raises(DeviceError, match="no manifest"):
        KernelManifest.read(tmp_path)


@pytest.mark.parametrize("arch", TARGETS)
def test_variants_are_named_once_and_take_the_same_arguments_everywhere(arch: str) -> None:
    here, reference = list(variants(arch)), list(variants("gfx942"))
    assert len({variant.name for variant in here}) == len(here)
    arguments = [(variant.name, variant.arguments) for variant in here]
    assert arguments == [(variant.name, variant.arguments) for variant in reference]
