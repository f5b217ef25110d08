"""What the bits of a page depend on, besides its tokens."""

import hashlib
import platform
from functools import cache

import msgspec
import onnxruntime

from runtime.manifest import Manifest
from runtime.ops.library import instruction_set, library_path
from runtime.pages import HASH_BYTES

PROCESSOR = "/proc/cpuinfo"


def identity_of(manifest: Manifest, page_size: int, weights: str) -> bytes:
    """Return a hash of the model, its arithmetic and the layout of a page: 16 bytes.

    page_size: tokens of a page; weights: how matrices are read, as the setting says. Two processes
    with the same identity compute the same bits of a page from the same tokens. The processor's
    features are in it, since ONNX Runtime chooses kernels by them.
    """
    named = (
        manifest.weights.sha256,
        manifest.graph_sha256,
        manifest.page_layout,
        page_size,
        "float16",
        weights,
        instruction_set(),
        _operators(),
        onnxruntime.__version__,
        platform.machine(),
        _processor_features(),
    )
    return hashlib.blake2b(msgspec.json.encode(named), digest_size=HASH_BYTES).digest()


@cache
def _operators() -> str:
    """Return a hash of the native library, which is the arithmetic of the operators."""
    return hashlib.blake2b(library_path().read_bytes(), digest_size=HASH_BYTES).hexdigest()


@cache
def _processor_features() -> str:
    """Return the features of the first processor as the system lists them; empty if it does not."""
    try:
        with open(PROCESSOR, encoding="ascii", errors="replace") as file:
            return next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""
