"""The image of deploy/container: built by buildah on Debian's packages, and run as its user."""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from runtime.extras import EXTRA_OF
from runtime.registry import Catalog
from runtime.sample_model import FILE_NAME
from runtime.settings import Settings
from tests.command_line.test_serve import free_port
from tests.waiting import SECONDS, eventually

pytestmark = [pytest.mark.long, pytest.mark.sample]
ROOT = Path(__file__).parents[2]
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MOST_BYTES = 600_000_000
SLIM_LEAVES_OUT = (
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    "usr/share/doc/*",
    "usr/share/locale/*",
    "usr/share/man/*",
)
"""What Debian's slim image lacks, on which ours is built."""


@dataclass(frozen=True)
class Image:
    """A built image: its files, and what it says of how it is run."""

    root: Path
    config: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])

    def command(
        self, command: Sequence[str], home: Path, model: Path, **variables: str
    ) -> list[str]:
        """A command that runs inside, as a container runtime would run it.

        The root is read-only but for the home and /tmp, and the process has the image's user, no
        capability, and the model.
        """
        user, group = self.config["User"].split(":")
        given = {**self.environment, **variables}
        inside: list[str | Path] = [
            *("chroot", self.root, "setpriv", "--reuid", user, "--regid", group, "--clear-groups"),
            *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "env", "-i"),
            *(f"{name}={value}" for name, value in given.items()),
            *command,
        ]
        steps = [
            f"mount --bind {self.root} {self.root}",
            f"mount -o remount,bind,ro {self.root}",
            f"mount -t tmpfs tmpfs {self.root}/tmp",
            f"mount --bind {home} {self.root}{given['ROCMFORGE_HOME']}",
            f"mount --bind {model} {self.root}/mnt/models",
            f"mount -o remount,bind,ro {self.root}/mnt/models",
            f"mount --rbind /dev {self.root}/dev",
            f"mount -t proc proc {self.root}/proc",
            f"exec {shlex.join(map(str, inside))}",
        ]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return [*namespaces, "sh", "-ec", "\n".join(steps)]


@pytest.fixture(scope="module")
def image(wheel: Path) -> Iterator[Image]:
    """The image for processors, on what debootstrap makes: this machine may reach no registry."""
    if os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("debootstrap"):
        pytest.skip("needs root, buildah and debootstrap: apt install buildah debootstrap")
    with tempfile.TemporaryDirectory(prefix="rocmforge-image-") as name:
        folder = Path(name)
        buildah: list[str | Path] = [
            *("buildah", "--root", folder / "storage", "--runroot", folder / "run"),
            *("--storage-driver", "vfs"),
        ]

        def run(*command: str | Path) -> str:
            called = subprocess.run(
                list(map(str, command)), check=True, capture_output=True, text=True, cwd=ROOT
            )
            return called.stdout.strip()

        base = folder / "base"
        run("debootstrap", "--variant=minbase", "trixie", base, MIRROR)
        run("rm", "-rf", *(path for pattern in SLIM_LEAVES_OUT for path in base.glob(pattern)))
        container = run(*buildah, "from", "scratch")
        run(*buildah, "add", container, base, "/")
        run(*buildah, "commit", container, "localhost/base")
        shutil.rmtree(base)
        # The wheel that is built already; pip trusts the index as this machine's does.
        (folder / "context/wheel").mkdir(parents=True)
        shutil.copy(wheel, folder / "context/wheel")
        (folder / "pip.conf").write_text("[global]\ncert = /certificates.crt\n")
        run(
            *(*buildah, "build", "--isolation", "chroot", "--format", "docker"),
            *("--build-arg", "BASE=localhost/base"),
            *("--build-context", f"wheel={folder / 'context'}"),
            *("--volume", f"{CERTIFICATES}:/certificates.crt:ro"),
            *("--volume", f"{folder / 'pip.conf'}:/etc/pip.conf:ro"),
            *("--tag", "localhost/rocmforge", "--file", "deploy/container/Dockerfile", "."),
        )
        container = run(*buildah, "from", "localhost/rocmforge")
        try:
            described = json.loads(
                run(*buildah, "inspect", "--type", "image", "localhost/rocmforge")
            )
            root = Path(run(*buildah, "mount", container))
            yield Image(root, described["Docker"]["config"])
        finally:
            run(*buildah, "umount", container)


def test_the_image_is_small_and_lists_its_packages(image: Image) -> None:
    files = [path.lstat() for path in image.root.rglob("*")]
    sizes = {file.st_ino: file.st_blocks * 512 for file in files}
    assert sum(sizes.values()) < MOST_BYTES
    (site,) = image.root.glob("opt/rocmforge/lib/python3*/site-packages")
    installed = {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")}
    bill = json.loads((image.root / "usr/share/rocmforge/sbom.cdx.json").read_text())
    listed = {each["name"].replace("-", "_").lower() for each in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert listed == installed
    assert not {*EXTRA_OF, "pip", "triton"} & listed
    assert not list(site.glob("onnxruntime/capi/*providers_rocm*"))


def test_it_says_how_it_is_run(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert [*config["Entrypoint"], *config["Cmd"]] == ["rocmforge", "serve", "/mnt/models"]
    assert "8080/tcp" in config["ExposedPorts"]


def test_a_published_model_is_served_by_a_user_on_a_read_only_root(
    image: Image, sample_home: Path, tmp_path: Path
) -> None:
    catalog = Catalog(Settings(home=sample_home))
    model = catalog.resolve(FILE_NAME.removesuffix(".gguf"))
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 10001, 10001)
    port = str(free_port())
    variables = {"ROCMFORGE_PORT": port, "ROCMFORGE_HOST": "127.0.0.1"}
    serve = [*image.config["Entrypoint"], *image.config["Cmd"]]
    _, *health = image.config["Healthcheck"]["Test"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(image.command(serve, home, model, **variables)) as server:
        try:
            eventually(lambda: server.poll() is not None or answers(url))
            subprocess.run(
                image.command(health, home, model, **variables), check=True, timeout=SECONDS
            )
            body: dict[str, Any] = {
                "prompt": "The capital of Italy is",
                "max_tokens": 8,
                "temperature": 0,
            }
            answer = requests.post(f"{url}/generate", json=body, timeout=SECONDS).json()
        finally:
            server.kill()
    assert answer["text"].startswith(" Rome")
    assert [path.name for path in home.iterdir()] == ["cache"]
    touched = ["touch", "/etc/touched"]
    refused = subprocess.run(
        image.command(touched, home, model), capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in refused.stderr


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/ready", timeout=SECONDS).status_code == 200
    except requests.ConnectionError:
        return False
