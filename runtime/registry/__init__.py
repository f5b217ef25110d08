"""The published models on disk, shared by all packages."""

from runtime.registry.catalog import Catalog
from runtime.registry.identity import is_same_model
from runtime.registry.names import expect_name, is_name, model_name
from runtime.registry.registry import Registry
from runtime.registry.version import (
    BrokenVersion,
    PublishedModel,
    read_version,
    version_number,
    version_of,
)

__all__ = [
    "BrokenVersion",
    "Catalog",
    "PublishedModel",
    "Registry",
    "expect_name",
    "is_name",
    "is_same_model",
    "model_name",
    "read_version",
    "version_number",
    "version_of",
]
