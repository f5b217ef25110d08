"""A model that fails a check is published where that was accepted, and says so everywhere."""

import re
from dataclasses import replace
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from pipelines.checks import shown
from pipelines.conversion.convert import convert
from pipelines.prepare import prepare
from pipelines.validation import validate
from pipelines.validation.limits import most_divergence
from runtime.errors import PreparationError
from runtime.manifest import CheckResult, Manifest
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.exact_models import exact_models
from tests.models import write_tiny_llama
from tests.pipelines.faults import double_scale, plant
from tests.tiny_models import TINY_MODELS, write_tiny_model

MEASUREMENT = re.compile(r"\| (\S+) \| (\S+) \| ([\d.e-]+) \| [\d.e-]+ \|")
DOCUMENT = Path(__file__).parents[2] / "docs/exactness.md"


def accepting(settings: Settings, **limits: float | None) -> Settings:
    return msgspec.structs.replace(settings, accept_check=limits)


@pytest.fixture
def diverging(tmp_path: Path) -> Path:
    """A model that makes much of the rounding of activations: 0.19 nats in its logits."""
    tiny = replace(TINY_MODELS["llama"], format="Q4_1", gain=3.0, layers=8, embedding_gain=8.0)
    return write_tiny_model(tmp_path / "diverging.gguf", tiny)


def silent(step: str) -> None:
    """Progress that nobody watches."""


def test_a_failed_check_says_how_it_is_accepted(diverging: Path, settings: Settings) -> None:
    with pytest.raises(PreparationError, match=r"--accept-check logits=0\.19 publishes it"):
        prepare(diverging, settings, silent)
    with pytest.raises(PreparationError, match="failed its logits check"):
        prepare(diverging, accepting(settings, logits=0.1), silent)
    assert Registry(settings).versions("diverging") == []


def test_a_model_is_published_with_what_was_accepted(diverging: Path, settings: Settings) -> None:
    accepted = accepting(settings, logits=0.2, greedy=9.0, perplexity=1.0)
    manifest = Manifest.read(prepare(diverging, accepted, silent))
    found = {check.name: check.measured for check in manifest.accepted_checks}
    assert found == {
        "logits": pytest.approx(0.19, abs=0.01),
        "greedy": pytest.approx(5.48, abs=0.1),
        "perplexity": pytest.approx(0.69, abs=0.05),
    }
    assert [check.passed for check in manifest.checks][-2:] == [True, True]


def test_a_wrong_operator_is_not_accepted(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "prepared"
    folder.mkdir()
    convert(Source(write_tiny_llama(tmp_path / "tiny.gguf")), folder, "tiny")
    plant(folder, double_scale)
    result = validate(folder, accepting(settings, logits=1000.0))[-1]
    assert (result.name, result.allows_publishing, result.measured) == ("logits", False, None)


@pytest.mark.parametrize(
    ("passed", "is_accepted", "severity"),
    [(False, True, "WARN"), (False, False, "ERROR"), (True, False, "ERROR")],
)
def test_dagster_shows_an_accepted_failure_as_a_warning(
    passed: bool, is_accepted: bool, severity: str
) -> None:
    result = CheckResult(name="logits", passed=passed, summary="", is_accepted=is_accepted)
    found = shown(result, 0.05)
    assert (found.passed, found.severity) == (passed, dg.AssetCheckSeverity[severity])


def test_limits_are_twice_what_was_measured_and_no_more_than_needed() -> None:
    """Of every architecture and format: docs/exactness.md."""
    measured = [found.groups() for found in map(MEASUREMENT.match, DOCUMENT.open()) if found]
    known = {name for name, _ in exact_models()}
    ratios: dict[float, float] = {}
    for name, block_format, divergence in measured:
        if name not in known:
            continue
        experts = TINY_MODELS[name].experts > 0
        limit = most_divergence({block_format: 1}, has_experts=experts)
        ratios[limit] = max(ratios.get(limit, 0.0), float(divergence) / limit)
    assert len(ratios) == 4
    assert max(ratios.values()) <= 0.5
    assert all(ratio >= 0.25 for limit, ratio in ratios.items() if limit > 0.01)


def test_a_format_counts_from_a_hundredth_of_the_bytes_on() -> None:
    assert most_divergence({"F16": 990, "Q8_0": 9}, has_experts=False) == 0.001
    assert most_divergence({"F16": 980, "Q8_0": 20}, has_experts=False) == 0.05
    assert most_divergence({"Q8_0": 50, "Q6_K": 50}, has_experts=False) == 0.12
