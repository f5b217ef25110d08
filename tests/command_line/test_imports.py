"""The imports of a ready server: nothing of the pipelines, and nothing that can wait."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import grimp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rocmforge.__main__ import main
from tests.models import write_tiny_llama

ROOT = Path(__file__).parents[2]
LATER = {
    "api.openapi.document",
    "difflib",
    "gguf",
    "llguidance",
    "numpy.ma",
    "opentelemetry.exporter.otlp.json",
}
"""What takes time to import, and only some requests need."""
HEAVY = {
    "dagster",
    "fsspec",
    "huggingface_hub",
    "matplotlib",
    "onnx",
    "pandas",
    "PIL",
    "grpc",
    "sqlalchemy",
}
OF_SITE = {"_distutils_hack"}
"""What an environment imports at the start of every Python."""
OF_OTHER_EXTRAS = {"torch", "triton", "zmq"}
"""What compiles GPU kernels, and what `--kv-events` sends with."""


def test_a_ready_server_has_imported_only_what_it_needs(tmp_path: Path) -> None:
    gguf = write_tiny_llama(tmp_path / "tiny.gguf")
    home = ["--home", str(tmp_path / "home")]
    assert main(["prepare", str(gguf), *home]) == 0
    with (tmp_path / "imports").open("w+") as imports:
        with subprocess.Popen(
            [sys.executable, "-m", "rocmforge", "serve", "tiny", "--port", "0", *home],
            env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
            stdout=subprocess.PIPE,
            stderr=imports,
            text=True,
        ) as server:
            assert server.stdout is not None
            assert any(line.startswith("Ready") for line in server.stdout)
            server.send_signal(signal.SIGTERM)
            server.stdout.read()
        assert server.returncode == 0
        imports.seek(0)
        lines = [line for line in imports if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip() for line in lines}
    packages = {module.partition(".")[0] for module in modules}
    assert {"falcon", "onnxruntime", "tokenizers"} <= packages
    assert not HEAVY & packages
    assert not (LATER | {"pipelines.conversion"}) & modules
    assert foreign(packages - OF_SITE) == set()


def test_what_serves_imports_only_what_is_installed_without_extras() -> None:
    """Also where it imports late: on some requests, of some models."""
    graph = grimp.build_graph("api", "runtime", include_external_packages=True)
    imported = {
        module
        for module in graph.modules
        if graph.is_module_squashed(module) and module not in sys.stdlib_module_names
    }
    assert {"falcon", "gguf", "llguidance", "onnxruntime"} <= imported
    assert foreign(imported - OF_OTHER_EXTRAS) == set()


def test_nobody_imports_a_private_module_of_dagster() -> None:
    """Any release may change them."""
    private = re.compile(r"\bdagster[.]_")
    packages = ("api", "pipelines", "rocmforge", "runtime", "tests")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    assert [file for file in files if private.search(file.read_text())] == []


BASE: Sequence[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "dependencies"
]
"""What `pip install rocmforge` asks for."""


def foreign(packages: set[str]) -> set[str]:
    """Those packages that belong to a distribution which `pip install rocmforge` leaves out."""
    installed = {*installed_with(BASE), "rocmforge"}
    by_package = packages_distributions()
    return {
        package
        for package in packages
        if package in by_package
        and not installed & {canonicalize_name(name) for name in by_package[package]}
    }


def installed_with(requirements: Sequence[str]) -> set[str]:
    """The names of the distributions that pip installs for requirements without extras."""
    found: set[str] = set()
    wanted = [Requirement(text) for text in requirements]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and name not in found:
            found.add(name)
            wanted += map(Requirement, requires(name) or ())
    return found
