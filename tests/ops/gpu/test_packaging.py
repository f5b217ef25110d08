"""Compiled kernels in a wheel: CMake's installation rules, on small sources."""

import shutil
import subprocess
import sys
from pathlib import Path

from runtime.ops.gpu.manifest import KernelManifest
from runtime.ops.library import LIBRARY_NAME
from tests.rocm.stub_device import ARCHITECTURE, write_manifest

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(sys.executable).parent
CMAKE = str(PROGRAMS / "cmake")
NINJA = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}")
NATIVE = Path("runtime/ops/native")
SOURCES = (
    "instruction_set.cc",
    *(f"kernels/kernels_{each}.cc" for each in ("scalar", "avx2", "avx512")),
)


def installed(tree: Path) -> Path:
    """Build a tree as a wheel's build does, and give the folder that it installs to."""
    for name in SOURCES:
        (tree / NATIVE / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / NATIVE / name).touch()
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    build, out = tree / "build", tree / "wheel"
    for command in (
        ["-S", str(tree), "-B", str(build), "-DSKBUILD=ON", *NINJA],
        ["--build", str(build)],
        ["--install", str(build), "--prefix", str(out)],
    ):
        result = subprocess.run([CMAKE, *command], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    return out


def test_compiled_kernels_stand_in_a_wheel_where_the_package_looks_for_them(
    tmp_path: Path,
) -> None:
    compiled = Path("runtime/ops/gpu/compiled")
    write_manifest(tmp_path / compiled)
    out = installed(tmp_path)
    assert (out / "runtime/ops" / LIBRARY_NAME).is_file()
    manifest = KernelManifest.read(out / compiled)
    assert manifest is not None
    kernels = manifest.targets[ARCHITECTURE].kernels
    assert {manifest.code(each) for each in kernels.values()} == {
        b"STUB:" + name.encode() for name in kernels
    }


def test_a_wheel_without_compiled_kernels_can_be_built(tmp_path: Path) -> None:
    out = installed(tmp_path)
    assert (out / "runtime/ops" / LIBRARY_NAME).is_file()
    assert KernelManifest.read(out / "runtime/ops/gpu/compiled") is None
