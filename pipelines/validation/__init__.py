"""Validation of a converted model: the checks and their measurements."""

from pipelines.validation.process import validate_in_child
from pipelines.validation.run import CHECKS, run_checks, validate

__all__ = ["CHECKS", "run_checks", "validate", "validate_in_child"]
