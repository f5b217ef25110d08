"""The files for Prometheus and Grafana in deploy/, compared with a real scrape."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.document import code_blocks
from tests.api.serving import Serving

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yaml"
RULES_TEST = Path(__file__).with_name("rules_test.yaml")
DASHBOARD = DEPLOY / "grafana" / "rocmforge.json"

METRIC = re.compile(r"(?<![\w:])rocmforge_\w+")
RECORDED = re.compile(r"job:rocmforge_[\w:]+")


def rules() -> dict[str, str]:
    """Expression of each recorded name."""
    groups = msgspec.yaml.decode(RULES.read_bytes())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture
def scraped(serving: Serving) -> set[str]:
    """Names of the samples that a server gives."""
    serving.generate(max_tokens=1)
    families = text_string_to_metric_families(serving.get("/metrics").text)
    return {sample.name for family in families for sample in family.samples}


def test_rules_are_over_metrics_that_there_are(scraped: set[str]) -> None:
    assert len(rules()) > 10
    for record, expression in rules().items():
        used = set(METRIC.findall(expression))
        assert used, record
        assert used <= scraped, record


def test_panels_show_metrics_and_rules_that_there_are(scraped: set[str]) -> None:
    for expression in dashboard_expressions():
        recorded = set(RECORDED.findall(expression))
        plain = set(METRIC.findall(expression))
        assert recorded | plain, expression
        assert recorded <= rules().keys()
        assert plain <= scraped


def test_the_document_s_queries_are_over_metrics_that_there_are(scraped: set[str]) -> None:
    (queries,) = code_blocks("promql")
    assert METRIC.findall(queries)
    assert set(METRIC.findall(queries)) <= scraped


def test_every_rule_is_on_the_dashboard_or_left_to_alerts() -> None:
    shown = set(RECORDED.findall(" ".join(dashboard_expressions())))
    left = {
        "job:rocmforge_requests_started:rate5m",
        "job:rocmforge_queue_length:sum",
        "job:rocmforge_cache_utilization:ratio",
    }
    assert shown | left == rules().keys()


def test_panels_have_ids_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.skipif(shutil.which("promtool") is None, reason="checks with Prometheus' promtool")
@pytest.mark.parametrize(
    ("command", "path"),
    [("check config", PROMETHEUS), ("check rules", RULES), ("test rules", RULES_TEST)],
)
def test_prometheus_accepts_the_files_and_makes_of_them_what_is_meant(
    command: str, path: Path
) -> None:
    checked = subprocess.run(
        ["promtool", *command.split(), path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
