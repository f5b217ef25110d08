"""What ROCm says in a child process: its library, its release and its GPUs."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec

from runtime.device.packages import package_of

PROBE_SECONDS = 120.0
"""ROCm's first use of a GPU after a restart may be slow."""


class RocmDevice(msgspec.Struct, frozen=True):
    """A GPU that HIP shows. Immutable. architecture: "gfx942"; number: as HIP counts, from 0."""

    name: str
    architecture: str
    memory_bytes: int
    number: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture})"


class Rocm(msgspec.Struct, frozen=True):
    """ROCm as `probe.py` finds it. Immutable.

    library: the place of HIP's library, "" if there is none; failures: why others were not loaded;
    override: HSA_OVERRIDE_GFX_VERSION, by which ROCm takes a card for another; rocm_provider:
    whether ONNX Runtime's provider for ROCm loads, None if the package has none; error: why no GPU
    can be used, "" if one can.
    """

    library: str = ""
    failures: tuple[str, ...] = ()
    override: str = ""
    hip_version: str = ""
    devices: tuple[RocmDevice, ...] = ()
    rocm_provider: bool | None = None
    error: str = ""


def probe() -> Rocm:
    """Return what ROCm says. What is missing is in its error."""
    command = [sys.executable, str(Path(__file__).with_name("probe.py"))]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        said = f"ROCm did not answer within {PROBE_SECONDS:g} seconds; see `rocminfo`"
        return Rocm(error=said)
    if child.returncode != 0:
        words = child.stderr.strip().splitlines()
        last = f": {words[-1]}" if words else ""
        return Rocm(
            error="ROCm's libraries fail here (a process that loads them ends with status "
            f"{child.returncode}{last}); see `rocminfo`"
        )
    found = msgspec.json.decode(child.stdout.splitlines()[-1], type=Rocm)
    devices = tuple(
        msgspec.structs.replace(device, number=number)
        for number, device in enumerate(found.devices)
    )
    error = _error(found, child.stderr)
    return msgspec.structs.replace(found, devices=devices, error=error)


def _error(found: Rocm, said: str) -> str:
    """Why no GPU can be used, from what the child found and said; "" if one can."""
    if not found.library:
        return (
            f"ROCm is not installed: {found.failures[0]} ({package_of('libamdhip64.so')} has it; "
            "ROCM_PATH names the folder of a ROCm elsewhere)"
        )
    if found.error or not found.devices:
        return f"{found.error or 'HIP finds no GPU'}; is HIP_VISIBLE_DEVICES right?"
    if found.rocm_provider is False:
        missed = re.search(r"with error: (([^:]*).*)", said)
        if missed is None:
            return "ONNX Runtime cannot load its ROCm provider"
        package = package_of(missed[2])
        has_it = f" ({package} has it)" if package else ""
        return f"ONNX Runtime cannot load its ROCm provider: {missed[1]}{has_it}"
    return ""
