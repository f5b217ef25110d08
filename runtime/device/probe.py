"""Asks HIP for the first GPU and prints its name and architecture, or an error, as JSON.

A program of its own, because ROCm's libraries abort the process if they find no suitable device.
It imports nothing of the project, so that it is quick.
"""

import ctypes
import json

HIP = "libamdhip64.so.7"
"""The ROCm release that the provider is built for."""
PROPERTIES_BYTES = 4096
"""Larger than any release's hipDeviceProp_t."""
ARCHITECTURE_AT = 1160
"""Offset of gcnArchName in hipDeviceProp_tR0600, a layout that HIP keeps under this name."""
PROVIDER = "ROCMExecutionProvider"
ONE_NODE = (
    b'\x08\n:2\n\x0b\n\x01x\x12\x01y"\x03Abs\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x15"
)
"""An ONNX model: y = Abs(x)."""


def ask() -> dict[str, str]:
    """Return the GPU's properties, or why none can be used."""
    try:
        hip = ctypes.CDLL(HIP)
    except OSError as error:
        return {"error": f"ROCm 7 is not installed: {error}"}
    hip.hipGetErrorString.restype = ctypes.c_char_p
    count = ctypes.c_int(0)
    status = hip.hipGetDeviceCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        said = hip.hipGetErrorString(status).decode()
        return {"error": f"HIP finds no GPU ({said}); is HIP_VISIBLE_DEVICES right?"}
    properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
    if (status := hip.hipGetDevicePropertiesR0600(properties, 0)) != 0:
        said = hip.hipGetErrorString(status).decode()
        return {"error": f"HIP does not describe the GPU: {said}"}
    # The provider's other libraries fail to load, or abort, only now.
    import onnxruntime

    session = onnxruntime.InferenceSession(ONE_NODE, providers=[PROVIDER])
    if PROVIDER not in session.get_providers():
        return {"error": "ONNX Runtime cannot load its ROCm provider"}
    architecture = ctypes.string_at(ctypes.addressof(properties) + ARCHITECTURE_AT).decode()
    return {"name": properties.value.decode(), "architecture": architecture.partition(":")[0]}


if __name__ == "__main__":
    print(json.dumps(ask()))
