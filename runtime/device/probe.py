"""Asks ROCm for its GPUs and prints what it says as JSON.

A program of its own, because ROCm's libraries abort the process if they find no suitable device.
It imports nothing of the project, so that it is quick.
"""

import ctypes
import json
import os
from collections.abc import Iterator
from typing import Any

HIP_NAMES = ("libamdhip64.so.7", "libamdhip64.so.6")
"""HIP of ROCm 7 and of ROCm 6, whose functions that we call are the same."""
PROPERTIES_BYTES = 4096
"""Larger than any release's hipDeviceProp_t."""
MEMORY_AT = 288
ARCHITECTURE_AT = 1160
"""Offsets of totalGlobalMem and gcnArchName in hipDeviceProp_tR0600, a layout that HIP keeps."""
PROVIDER = "ROCMExecutionProvider"
ONE_NODE = (
    b'\x08\n:2\n\x0b\n\x01x\x12\x01y"\x03Abs\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x15"
)
"""An ONNX model: y = Abs(x)."""


def hip_places() -> Iterator[str]:
    """Yield where HIP may be: where ROCM_PATH says, the linker's own places, /opt/rocm."""
    if root := os.environ.get("ROCM_PATH"):
        yield from (os.path.join(root, "lib", name) for name in HIP_NAMES)
    for name in HIP_NAMES:
        yield name
        yield f"/opt/rocm/lib/{name}"


def load_hip() -> tuple[ctypes.CDLL | None, str, list[str]]:
    """Return HIP's library, its place, and why the places before it were none."""
    failures: list[str] = []
    for place in hip_places():
        try:
            return ctypes.CDLL(place), place, failures
        except OSError as error:
            failures.append(str(error))
    return None, "", failures


def devices(hip: ctypes.CDLL) -> list[dict[str, Any]]:
    """Return the GPUs that HIP shows this process. Raises OSError with HIP's words."""
    hip.hipGetErrorString.restype = ctypes.c_char_p

    def expect(status: int, doing: str) -> None:
        if status != 0:
            raise OSError(f"{doing} ({hip.hipGetErrorString(status).decode()})")

    count = ctypes.c_int(0)
    expect(hip.hipGetDeviceCount(ctypes.byref(count)), "HIP finds no GPU")
    found = []
    for number in range(count.value):
        properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
        expect(hip.hipGetDevicePropertiesR0600(properties, number), "HIP does not describe the GPU")
        start = ctypes.addressof(properties)
        found.append(
            {
                "name": properties.value.decode(),
                "architecture": ctypes.string_at(start + ARCHITECTURE_AT).decode().split(":")[0],
                "memory_bytes": ctypes.c_size_t.from_address(start + MEMORY_AT).value,
            }
        )
    return found


def has_rocm_provider() -> bool | None:
    """Whether ONNX Runtime's provider for ROCm can be loaded; None where the package has none."""
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        return None
    # The provider's other libraries fail to load, or abort, only now.
    session = onnxruntime.InferenceSession(ONE_NODE, providers=[PROVIDER])
    return PROVIDER in session.get_providers()


def ask() -> dict[str, Any]:
    """Return what there is: HIP and its release, the GPUs, ONNX Runtime's provider for ROCm."""
    hip, place, failures = load_hip()
    said: dict[str, Any] = {
        "library": place,
        "failures": failures,
        "override": os.environ.get("HSA_OVERRIDE_GFX_VERSION", ""),
    }
    if hip is None:
        return said
    version = ctypes.c_int(0)
    hip.hipRuntimeGetVersion(ctypes.byref(version))
    said["hip_version"] = f"{version.value // 10_000_000}.{version.value // 100_000 % 100}"
    try:
        said["devices"] = devices(hip)
    except OSError as error:
        return said | {"error": str(error)}
    return said | {"rocm_provider": has_rocm_provider()}


if __name__ == "__main__":
    print(json.dumps(ask()))
