"""The imports of a ready server: nothing of the pipelines, and nothing that can wait."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

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
HEAVY = {"dagster", "huggingface_hub", "matplotlib", "onnx", "pandas", "PIL", "grpc", "sqlalchemy"}


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


def test_nobody_imports_a_private_module_of_dagster() -> None:
    """Any release may change them."""
    private = re.compile(r"\bdagster[.]_")
    packages = ("api", "pipelines", "rocmforge", "runtime", "tests")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    assert [file for file in files if private.search(file.read_text())] == []
