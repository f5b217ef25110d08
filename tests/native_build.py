"""Builds the operator library another way than it is shipped: emulated, or under sanitizers."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from runtime.ops.library import LIBRARY_NAME

ROOT = Path(__file__).resolve().parents[1]


class ToolsMissing(Exception):
    """CMake or Ninja is not here; the message says so."""


def build_library(name: str, option: str) -> Path:
    """The library of build/`name`, configured with one of CMakeLists.txt's options.

    Built where its sources are newer; processes that ask at once share one build. Raises
    ToolsMissing, and RuntimeError with the compiler's words.
    """
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake, ninja = shutil.which("cmake", path=programs), shutil.which("ninja", path=programs)
    if cmake is None or ninja is None:
        raise ToolsMissing("cmake and ninja build the library, and they are not here")
    build = ROOT / "build" / name
    make = ["-G", "Ninja", f"-D{option}=ON", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    configure = [cmake, "-S", str(ROOT), "-B", str(build), *make]
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (configure, [cmake, "--build", str(build)]):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise RuntimeError(result.stdout + result.stderr)
    return build / LIBRARY_NAME
