"""Validation of a converted model: the checks, and what they measure with."""

from pipelines.validation.process import validate_apart
from pipelines.validation.run import CHECKS, run_checks, validate

__all__ = ["CHECKS", "run_checks", "validate", "validate_apart"]
