"""Files of llama.cpp's source, which stand in the source package of llama-cpp-python (73 MB)."""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REQUIREMENT = "llama-cpp-python==0.3.36"


def fetch(folder: Path, wanted: str) -> Path:
    """A folder of the files whose path holds `wanted`, downloaded by pip where it isn't there yet.

    `folder` is where it stands, in one of the package's name and version.
    """
    placed = folder / REQUIREMENT
    if not placed.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            work = Path(name)
            options = ["--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(work)]
            command = [sys.executable, "-m", "pip", "download", *options, REQUIREMENT]
            subprocess.run(command, stdout=sys.stderr, check=True)
            (archive,) = work.glob("*.tar.gz")
            unpacked = work / "unpacked"
            unpacked.mkdir()
            with tarfile.open(archive) as members:
                for member in members:
                    if wanted in member.name and (file := members.extractfile(member)):
                        (unpacked / Path(member.name).name).write_bytes(file.read())
            unpacked.rename(placed)
    return placed
