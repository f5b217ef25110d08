"""Where the clients are installed: one Python environment, which brings Node.js, and one folder
of packages for it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
PACKAGES = (HERE / "package.json", HERE / "package-lock.json")
SENT_NOWHERE = {
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    # The table of prices that litellm would fetch when it is imported.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""What keeps clients from asking anyone but the server."""


@dataclass(frozen=True)
class Environment:
    """Commands that run quick starts. Immutable."""

    python: Path
    node: Path | None = None
    """None where only clients in Python are asked."""
    scripts: Path = HERE
    """A folder with the quick starts in JavaScript, and with the packages that they import."""

    def command(self, quick_start: str) -> list[str]:
        """What runs the features of a quick start, named with its suffix."""
        name, _, suffix = quick_start.partition(".")
        if suffix == "py":
            return [str(self.python), "-m", "tests.clients.call", name]
        return [str(self.node), str(self.scripts / "call.mjs"), name]

    def variables(self, url: str, model: str) -> dict[str, str]:
        """The environment variables of a quick start that asks a server."""
        return {
            **{name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ},
            **SENT_NOWHERE,
            "PATH": f"{self.python.parent}:{os.defpath}",
            "PYTHONPATH": str(ROOT),
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "none",
            "OPENAI_MODEL": model,
        }


def made(folder: Path) -> Environment:
    """The clients' environment in a folder, with what is missing installed (1 GB the first time).

    Raises CalledProcessError where a package cannot be had.
    """
    folder = folder.absolute()
    python, scripts = folder / "python/bin/python", folder / "node"
    if not _is_current(folder / "python", [REQUIREMENTS]):
        venv.create(folder / "python", clear=True, with_pip=True)
        _run(python, "-m", "pip", "install", "--requirement", REQUIREMENTS)
        _set_current(folder / "python", [REQUIREMENTS])
    npm = python.with_name("npm")
    if not _is_current(scripts, PACKAGES):
        scripts.mkdir(exist_ok=True)
        for file in PACKAGES:
            shutil.copy(file, scripts)
        _run(npm, "ci", "--prefix", scripts, path=npm.parent)
        _set_current(scripts, PACKAGES)
    for source in HERE.rglob("*.mjs"):
        target = scripts / source.relative_to(HERE)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
    return Environment(python, python.with_name("node"), scripts)


def versions() -> dict[str, str]:
    """The version of every package that is asked for, by `NAME` (Python) or `npm:NAME`."""
    found = {
        name: version.partition(" ")[0]
        for line in REQUIREMENTS.read_text().splitlines()
        for name, equal, version in [line.partition("==")]
        if equal
    }
    packages = json.loads(PACKAGES[0].read_text())["dependencies"]
    return found | {f"npm:{name}": version for name, version in packages.items()}


def _is_current(folder: Path, files: Iterable[Path]) -> bool:
    """Whether a folder was installed from files as they are now."""
    stamp = folder / "installed-from"
    return stamp.is_file() and stamp.read_text() == _digest(files)


def _set_current(folder: Path, files: Iterable[Path]) -> None:
    (folder / "installed-from").write_text(_digest(files))


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _run(*command: str | Path, path: Path | None = None) -> None:
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": search})
