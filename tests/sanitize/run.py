"""Run the operators' tests, hostile inputs and broken GGUF files under ASan and UBSan."""

import argparse
import subprocess
import sys

from tests.native_build import ROOT
from tests.sanitize.library import environment

OPERATORS = (
    "tests/ops",
    "tests/rocm/test_on_stub.py",
    "tests/runtime/test_packed_weights.py",
    "tests/runtime/test_checksums.py",
    "--ignore=tests/ops/gpu",
)
SHORT = ("tests/ops/test_hostile_inputs.py", "-k", "bytes or steps or experts")
FILES, SHORT_FILES = 3000, 40


def main() -> None:
    """Exit with 1 where anything failed; a sanitizer's report is on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="under a minute")
    parser.add_argument("--files", type=int, help=f"broken GGUF files, by default {FILES}")
    options = parser.parse_args()
    tests = SHORT if options.short else OPERATORS
    files = options.files or (SHORT_FILES if options.short else FILES)
    pytest = ("pytest", "-p", "no:cacheprovider", "-q", "-n", "0")
    runs = (
        (*pytest, "--timeout=900", *tests),
        ("tests.sanitize.broken_files", "--files", str(files)),
    )
    sanitized = environment()
    failed = [
        run[0]
        for run in runs
        if subprocess.run([sys.executable, "-m", *run], env=sanitized, cwd=ROOT).returncode != 0
    ]
    if failed:
        raise SystemExit(f"failed under the sanitizers: {', '.join(failed)}")
    print("clean under AddressSanitizer and UndefinedBehaviorSanitizer")


if __name__ == "__main__":
    main()
