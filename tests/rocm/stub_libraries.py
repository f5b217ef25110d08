"""Builds libraries with the names that the ROCm provider links against, for a machine without ROCm.

libamdhip64 is `hip_stub.cc`. The others do nothing: the model's graph uses none of their functions,
but the provider's library is not loaded without them. With an onnxruntime that lacks it there are
none, since our own provider calls HIP alone.
"""

import fcntl
import re
import shutil
import subprocess
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARIES = {
    "libhipblas.so.3": ("hipblas", "rocblas"),
    "libMIOpen.so.1": ("miopen",),
    "libhipfft.so.0": ("hipfft",),
    "librocm_smi64.so.1": ("rsmi",),
    "libroctracer64.so.4": ("roctracer",),
}
"""Each library and how the names of its functions begin."""
HIP = "libamdhip64.so.7"
HIP_VERSIONS = ("hip_4.2", "hip_4.3", "hip_5.3", "hip_6.0")


def build() -> Path:
    """The folder of the libraries, built where they are missing or older than their source."""
    compiler, reader = shutil.which("g++"), shutil.which("nm")
    provider = _provider()
    if compiler is None or reader is None:
        pytest.skip("the stub of HIP needs g++ and nm")
    has_provider = provider.is_file()
    folder = ROOT / "build" / ("hip_stub" if has_provider else "hip_stub_alone")
    folder.mkdir(parents=True, exist_ok=True)
    sources = [HERE / "hip_stub.cc", Path(__file__), *([provider] if has_provider else [])]
    newest = max(path.stat().st_mtime for path in sources)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes in parallel share the build
        done = folder / "done"
        if not done.is_file() or done.stat().st_mtime < newest:
            _build(folder, compiler, _undefined(reader, provider) if has_provider else None)
            done.touch()
    return folder


def _provider() -> Path:
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "capi" / "libonnxruntime_providers_rocm.so"


def _undefined(reader: str, provider: Path) -> dict[str, list[str]]:
    """Functions that the provider lacks, by the version they are asked for under ("" for none)."""
    listing = _run(reader, "-D", "--undefined-only", str(provider))
    found: dict[str, list[str]] = defaultdict(list)
    for symbol in re.findall(r" U (\S+)", listing):
        name, _, version = symbol.partition("@")
        found[version].append(name)
    return found


def _build(folder: Path, compiler: str, undefined: dict[str, list[str]] | None) -> None:
    if undefined is None:
        _link(compiler, folder, HIP, HERE / "hip_stub.cc", "{ global: hip*; stub_*; local: *; };")
        return
    nodes, before = [], ""
    for version in HIP_VERSIONS:
        names = "".join(f" {name};" for name in undefined[version])
        nodes.append(f"{version} {{ global:{names} }} {before};")
        before = version
    # What the provider does not ask for is found without a version, as dlsym does.
    nodes.append(f"hip_7.0 {{ global: hip*; stub_*; local: *; }} {before};")
    _link(compiler, folder, HIP, HERE / "hip_stub.cc", "\n".join(nodes))
    for library, prefixes in LIBRARIES.items():
        functions: dict[str, list[str]] = {
            version: [name for name in names if name.startswith(prefixes)]
            for version, names in undefined.items()
        }
        source = folder / f"{library}.cc"
        source.write_text(
            "\n".join(_function(name) for each in functions.values() for name in each)
        )
        node = next((key for key, names in functions.items() if key and names), "")
        _link(compiler, folder, library, source, f"{node} {{ global: *; }};" if node else "")


def _function(name: str) -> str:
    """One that succeeds and, where it makes something, makes it."""
    made = "static long made; *result = &made;" if "Create" in name else ""
    return f'extern "C" int {name}(void** result) {{ {made} (void)result; return 0; }}'


def _link(compiler: str, folder: Path, library: str, source: Path, versions: str) -> None:
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{library}"]
    if versions:
        script = folder / f"{library}.map"
        script.write_text(versions)
        options.append(f"-Wl,--version-script={script}")
    _run(compiler, *options, "-o", str(folder / library), str(source))


def _run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
