"""`make emulate`: the tests of the GPU kernels on emulated instructions, and a table of them.

    make emulate TINYGRAD=checkout ARGS='--arch gfx1201'

The checkout is of https://github.com/tinygrad/tinygrad, at commit a9069c177a9d (August 2026).
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from runtime.ops.gpu.variants import TARGETS, WITHOUT_MATRIX_CORES

ROOT = Path(__file__).parents[2]
OF_EACH_GENERATION = ("gfx90a", "gfx942", "gfx1100", "gfx1151", "gfx1201")
EMULATED = [each for each in TARGETS if each not in WITHOUT_MATRIX_CORES | {"gfx1250"}]
"""The emulator has no RDNA 2 and no gfx1250."""
OUTCOME = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


def pytest_on(target: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a process of their own, with the emulator in the place of a card."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    if target is not None:
        environment |= {
            "TRITON_INTERPRET": "0",
            "ROCMFORGE_EMULATE": target,
            "ROCMFORGE_TILES": target,
        }
        command += ["-p", "tests.emulator.card"]
    return subprocess.run(
        [*command, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.emulate", description=__doc__)
    parser.add_argument("--arch", action="append", choices=EMULATED, help="one of each generation")
    parser.add_argument("--tests", default="", help="of these kernels alone: pytest's -k")
    given = parser.parse_args()
    if not (Path(os.environ.get("TINYGRAD", "")) / "test" / "mockgpu").is_dir():
        print("skipped: name a checkout of tinygrad with make emulate TINYGRAD=folder")
        return
    files = sorted((ROOT / "tests" / "ops" / "gpu").glob("test_*_kernels.py"))
    kernels = [path for path in files if path.name != "test_compiled_kernels.py"]
    first = pytest_on(None, "tests/emulator")
    print(f"instructions: {first.stdout.splitlines()[-1]}", flush=True)
    failed = first.returncode != 0
    print(
        "\n| Target | Kernels | Passed | Failed | Seconds |\n|---|---|---:|---:|---:|", flush=True
    )
    for target in given.arch or OF_EACH_GENERATION:
        for path in kernels:
            began = time.monotonic()
            result = pytest_on(target, str(path), *(("-k", given.tests) if given.tests else ()))
            counts = {name: int(number) for number, name in OUTCOME.findall(result.stdout)}
            kind = path.stem.removeprefix("test_").removesuffix("_kernels")
            passed, bad = counts.get("passed", 0), counts.get("failed", 0) + counts.get("errors", 0)
            seconds = time.monotonic() - began
            print(f"| {target} | {kind} | {passed} | {bad} | {seconds:.0f} |", flush=True)
            if result.returncode not in (0, 5):
                failed = True
                print(result.stdout[-4000:], result.stderr[-2000:])
    sys.exit(failed)


if __name__ == "__main__":
    main()
