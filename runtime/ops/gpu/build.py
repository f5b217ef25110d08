"""Compiles the GPU kernels ahead of time: code objects and the manifest a session reads.

    python -m runtime.ops.gpu.build                       # every architecture, into the package
    python -m runtime.ops.gpu.build --arch gfx942 --out folder --assembly folder

Needs Triton but no GPU. Architectures whose kernels are up to date are not compiled again, and of
others only what changed: Triton's own cache, by the content of sources and options, is kept.
"""

import argparse
import hashlib
import importlib
import multiprocessing
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from runtime.files import write_whole
from runtime.finite_json import finite_json
from runtime.ops.gpu.manifest import (
    COMPILED,
    MANIFEST_NAME,
    MANIFEST_VERSION,
    Argument,
    CompiledKernel,
    KernelManifest,
    Target,
)
from runtime.ops.gpu.variants import ALIGNED, TARGETS, Variant, variants

KERNELS = Path(__file__).parent / "kernels"
ALIGNMENT = 16
CACHE = Path(__file__).parents[3] / "build" / "triton"


class Compiled(NamedTuple):
    """A kernel for one architecture: its entry of the manifest, and what was compiled."""

    kernel: CompiledKernel
    code: bytes
    assembly: str


def compiled(variant: Variant, backend: str, arch: str | int, warp_size: int) -> Any:
    """Return Triton's compiled kernel of a variant for a target, such as ("hip", "gfx942", 64)."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"runtime.ops.gpu.kernels.{variant.module}")
    kernel = getattr(module, variant.function)
    types = dict(variant.arguments) | dict.fromkeys(variant.constants, "constexpr")
    if list(types) != [name for name in types if name in kernel.arg_names] or len(types) != len(
        kernel.arg_names
    ):
        raise ValueError(f"{variant.name} is declared with other arguments than its source has")
    signature = {name: types[name] for name in kernel.arg_names}
    aligned = [
        index
        for index, (name, type) in enumerate(signature.items())
        if type.startswith("*") or (type == "i32" and name in ALIGNED)
    ]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs=dict(variant.constants),
        attrs={(index,): [["tt.divisibility", ALIGNMENT]] for index in aligned},
    )
    options = {"num_warps": variant.warps, "num_stages": variant.stages}
    return triton.compile(source, target=GPUTarget(backend, arch, warp_size), options=options)


def compile_kernel(arch: str, name: str) -> Compiled:
    """Return the kernel that a variant's name stands for. Raises ValueError if it is unusable."""
    variant = next(each for each in variants(arch) if each.name == name)
    made = compiled(variant, "hip", arch, TARGETS[arch])
    scratch = ("global_scratch_size", "profile_scratch_size")
    if any(getattr(made.metadata, each, 0) for each in scratch):
        raise ValueError(f"{name} wants scratch memory, which no launcher gives it")
    assembly: str = made.asm["amdgcn"]
    kernel = CompiledKernel(
        file=f"{arch}/{name}.hsaco",
        symbol=made.metadata.name,
        warps=variant.warps,
        shared=made.metadata.shared,
        arguments=tuple(Argument(*argument) for argument in variant.arguments),
        constants={key: int(value) for key, value in variant.constants.items()},
        registers=_counted(assembly, "vgpr_count"),
        spilled=_counted(assembly, "vgpr_spill_count") + _counted(assembly, "sgpr_spill_count"),
    )
    return Compiled(kernel, made.asm["hsaco"], assembly)


def _counted(assembly: str, key: str) -> int:
    """A number of the kernel's metadata, such as .vgpr_spill_count."""
    found = re.search(rf"^\s*\.{key}:\s*(\d+)", assembly, re.MULTILINE)
    if found is None:
        raise ValueError(f"the compiler's assembly has no .{key}")
    return int(found[1])


def digest(arch: str, triton_version: str) -> str:
    """Return a hash of everything that decides what is compiled for an architecture."""
    hashed = hashlib.sha256(triton_version.encode())
    for source in sorted(KERNELS.glob("*.py")):
        hashed.update(source.read_bytes())
    hashed.update(repr(sorted(ALIGNED)).encode())
    for variant in variants(arch):
        hashed.update(repr(variant).encode())
    return hashed.hexdigest()


def build(
    archs: Iterable[str], out: Path, jobs: int, *, cache: Path, assembly: Path | None = None
) -> KernelManifest:
    """Compile what is not up to date into `out`, for each architecture all kernels or none.

    cache: folder of what was compiled before, by content.
    """
    import triton

    manifest = KernelManifest.read(out)
    targets: dict[str, Target] = dict(manifest.targets) if manifest is not None else {}
    wanted = {arch: digest(arch, triton.__version__) for arch in archs}
    stale = [
        arch
        for arch, each in wanted.items()
        if arch not in targets or targets[arch].digest != each or assembly is not None
    ]
    for arch, kernels in _compile_all(stale, jobs, cache):
        entries = _write(arch, kernels, out, assembly)
        targets[arch] = Target(warp_size=TARGETS[arch], digest=wanted[arch], kernels=entries)
        in_order = {each: targets[each] for each in TARGETS if each in targets}
        manifest = KernelManifest(MANIFEST_VERSION, triton.__version__, in_order)
        encoded = msgspec.json.format(finite_json(manifest), indent=1)
        write_whole(out / MANIFEST_NAME, encoded)
    assert manifest is not None
    return manifest


def _compile_all(
    archs: Iterable[str], jobs: int, cache: Path
) -> Iterator[tuple[str, dict[str, Compiled]]]:
    """Yield each architecture with its kernels, compiled by `jobs` processes for all together."""
    names = {arch: [variant.name for variant in variants(arch)] for arch in archs}
    pairs = [(arch, name) for arch, each in names.items() for name in each]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, cache_in, (str(cache),)) as pool:
        compiling = (
            pool.map(compile_kernel, *zip(*pairs, strict=True), chunksize=4) if pairs else ()
        )
        made = iter(compiling)
        for arch, each in names.items():
            print(f"{arch}: compiling {len(each)} kernels", flush=True)
            yield arch, {name: next(made) for name in each}


def _write(
    arch: str, kernels: Mapping[str, Compiled], out: Path, assembly: Path | None
) -> dict[str, CompiledKernel]:
    """Write an architecture's code objects; return their entries of the manifest."""
    (out / arch).mkdir(parents=True, exist_ok=True)
    for name, made in kernels.items():
        (out / made.kernel.file).write_bytes(made.code)
        if assembly is not None:
            (assembly / arch).mkdir(parents=True, exist_ok=True)
            (assembly / arch / f"{name}.s").write_text(made.assembly)
    for path in (out / arch).glob("*.hsaco"):
        if path.stem not in kernels:  # of a kernel that is no more
            path.unlink()
    return {name: made.kernel for name, made in kernels.items()}


def cache_in(folder: str) -> None:
    """Keep Triton's own cache in a folder, not in the user's home."""
    import triton

    triton.knobs.cache.dir = folder


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m runtime.ops.gpu.build", description=__doc__)
    parser.add_argument("--arch", action="append", choices=list(TARGETS), help="default: all")
    parser.add_argument("--out", type=Path, default=COMPILED)
    parser.add_argument("--assembly", type=Path, help="also write the assembly to this folder")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="folder of what was compiled before"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    try:
        import triton  # noqa: F401
    except ImportError:
        sys.exit("GPU kernels are compiled with Triton: make gpu-kernels installs it")
    given.out.mkdir(parents=True, exist_ok=True)
    manifest = build(
        given.arch or TARGETS, given.out, given.jobs, cache=given.cache, assembly=given.assembly
    )
    for arch, target in manifest.targets.items():
        size = sum((given.out / kernel.file).stat().st_size for kernel in target.kernels.values())
        print(f"{arch}: {len(target.kernels)} kernels, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
