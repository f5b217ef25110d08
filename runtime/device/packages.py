"""The packages of Linux distributions that have ROCm's libraries."""

from collections.abc import Mapping
from pathlib import Path

OS_RELEASE = Path("/etc/os-release")
OF_AMD = ("ubuntu", "debian")
"""Those for which AMD keeps a repository; their own packages are of an older ROCm."""
PACKAGES: Mapping[str, tuple[str, str, str]] = {
    "libamdhip64": ("hip-runtime-amd", "rocm-hip", "hip-runtime-amd"),
    "libhipblas": ("hipblas", "hipblas", "hipblas"),
    "libMIOpen": ("miopen-hip", "miopen", "miopen-hip"),
    "libhipfft": ("hipfft", "hipfft", "hipfft"),
    "librocm_smi64": ("rocm-smi-lib", "rocm-smi", "rocm-smi-lib"),
    "libroctracer64": ("roctracer", "roctracer", "roctracer"),
}
"""The package of each library in AMD's repository, Fedora and Arch."""


def package_of(library: str) -> str:
    """Return the package of a library, such as "libhipblas.so.3", in words; "" if unknown."""
    packages = PACKAGES.get(library.partition(".")[0])
    if packages is None:
        return ""
    of_amd, fedora, arch = packages
    known = {
        **dict.fromkeys(OF_AMD, f"{of_amd} of AMD's repository (repo.radeon.com)"),
        "fedora": fedora,
        "arch": arch,
    }
    for name in _distributions():
        if name in known:
            return f"the package {known[name]}"
    return f"the package {known['ubuntu']}, {fedora} of Fedora or {arch} of Arch"


def _distributions() -> list[str]:
    """Return the names of the running distribution and of those it is made from."""
    try:
        lines = OS_RELEASE.read_text().splitlines()
    except OSError:
        return []
    fields = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]
