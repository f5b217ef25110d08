"""Every kernel compiles for every AMD GPU, fits it, and uses what it has. No GPU is needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from runtime.ops.gpu.layouts import LAYOUTS
from runtime.ops.gpu.manifest import CompiledKernel, KernelManifest
from runtime.ops.gpu.variants import TARGETS, WITHOUT_MATRIX_CORES, variants

SOME = ("rms_norm.narrow", "one_row.q4_0", "few_rows.mxfp4", "prefill_attention.64")
"""Kernels that `make test` compiles; `make test-long` compiles all of them for every GPU."""
COMPILE_SOME = """
import sys
from pathlib import Path
import msgspec
from runtime.ops.gpu.build import cache_in, compile_kernel

folder, arch, *names = sys.argv[1:]
cache_in(folder)
for name in names:
    kernel, code, assembly = compile_kernel(arch, name)
    Path(folder, name + ".hsaco").write_bytes(code)
    Path(folder, name + ".s").write_text(assembly)
    Path(folder, name + ".json").write_bytes(msgspec.json.encode(kernel))
"""
LDS_BYTES = 65536
WIDE_LOAD = re.compile(r"(?:global|buffer)_load_(?:dwordx4|b128)")
PAIR_LOAD = re.compile(r"(?:global|buffer)_load_(?:dwordx2|b64)")
MATRIX_INSTRUCTION = re.compile(r"v_(?:mfma|wmma|swmmac)_")
KEEPS_SUBNORMALS = re.compile(r"\.amdhsa_float_denorm_mode_16_64 3\b")
WITH_DOT = ("few_rows", "many_rows", "decode_attention", "prefill_attention")


def run(*arguments: str) -> None:
    """Run Python in a process of its own, since Triton is interpreted in this one."""
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]


def compile_for(arch: str, folder: Path) -> KernelManifest:
    run(
        *("-m", "runtime.ops.gpu.build", "--arch", arch, "--jobs", "1"),
        *("--out", str(folder), "--assembly", str(folder), "--cache", str(folder / "cache")),
    )
    manifest = KernelManifest.read(folder)
    assert manifest is not None
    return manifest


def faults(arch: str, name: str, kernel: CompiledKernel, assembly: str) -> list[str]:
    """What a kernel lacks."""
    kind, _, variant = name.partition(".")
    found = []
    if kernel.shared > LDS_BYTES:
        found.append(f"{kernel.shared} bytes of LDS")
    if kernel.spilled:
        found.append(f"{kernel.spilled} spilled registers")
    if kind == "one_row":
        load = PAIR_LOAD if LAYOUTS[variant].low_bits == 2 else WIDE_LOAD
        if not load.search(assembly):
            found.append("no wide loads of weights")
    if variant == "mxfp4" and not KEEPS_SUBNORMALS.search(assembly):
        found.append("float16 subnormals are flushed, and halves become zeros")
    if kind in WITH_DOT and arch not in WITHOUT_MATRIX_CORES:
        is_exact = kernel.constants.get("EXACT") == 1
        if not is_exact and not MATRIX_INSTRUCTION.search(assembly):
            found.append("no matrix instructions")
        if "attention" in kind and not WIDE_LOAD.search(assembly):
            found.append("no wide loads of keys and values")
    return [f"{name}: {fault}" for fault in found]


@pytest.mark.slow
def test_some_kernels_compile_and_fit(tmp_path: Path) -> None:
    run("-c", COMPILE_SOME, str(tmp_path), "gfx942", *SOME)
    found: list[str] = []
    for name in SOME:
        kernel = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes(), type=CompiledKernel)
        assert (tmp_path / f"{name}.hsaco").read_bytes()[:4] == b"\x7fELF"
        found += faults("gfx942", name, kernel, (tmp_path / f"{name}.s").read_text())
    assert not found, "\n".join(found)


@pytest.mark.long
@pytest.mark.parametrize("arch", TARGETS)
def test_every_kernel_compiles_and_fits(arch: str, tmp_path: Path) -> None:
    target = compile_for(arch, tmp_path).targets[arch]
    assert list(target.kernels) == [variant.name for variant in variants(arch)]
    assert target.warp_size == TARGETS[arch]
    found: list[str] = []
    for name, kernel in target.kernels.items():
        assert (tmp_path / kernel.file).read_bytes()[:4] == b"\x7fELF"
        found += faults(arch, name, kernel, (tmp_path / arch / f"{name}.s").read_text())
    assert not found, "\n".join(found)
