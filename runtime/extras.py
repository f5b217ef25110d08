"""Packages that only some work needs, and the extra of pyproject.toml that installs them."""

from importlib.util import find_spec

from runtime.errors import MissingPackage

EXTRA_OF = {"dagster": "pipelines", "matplotlib": "pipelines", "onnx": "pipelines"}
"""By the package: its extra. A server of published models needs none of them."""


def expect_installed(package: str) -> None:
    """Raise MissingPackage if a package of an extra is not installed; does not import it."""
    if find_spec(package) is None:
        raise missing_package(package)


def missing_package(package: str) -> MissingPackage:
    """Return the error that names the command which installs a package of an extra."""
    return MissingPackage(
        f"the package {package} is not installed: preparing and measuring models take more than "
        f"serving published ones; install it with: pip install 'rocmforge[{EXTRA_OF[package]}]'"
    )
