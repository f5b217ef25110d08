"""The files for Prometheus and Grafana in deploy/, compared with a real scrape."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Serve
from tests.api.document import code_blocks
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yaml"
RULES_TEST = Path(__file__).with_name("rules_test.yaml")
DASHBOARD = DEPLOY / "grafana" / "rocmforge.json"

METRIC = re.compile(r"(?<![\w:])rocmforge_\w+")
RECORDED = re.compile(r"job(?:_model|_key)?:rocmforge_[\w:]+")
LISTENING = re.compile(r'msg="Listening on" address=([\d.:]+)')

KEY = "an-operator-s-own-key"
HEADERS = {"x-api-key": KEY}


def rules() -> dict[str, str]:
    """Expression of each recorded name."""
    groups = msgspec.yaml.decode(RULES.read_bytes())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def use(serving: Serving) -> None:
    """Ask for everything that is counted: text that repeats itself, with a key, and vectors."""
    body = {"prompt": "hello hello hello hello hello hello", "max_tokens": 40, "temperature": 0}
    assert serving.post("/generate", json=body, headers=HEADERS).status_code == 200
    with serving.services.embeddings.counted("tiny", texts=1, tokens=3):
        pass


@pytest.fixture
def used(serve: Serve) -> Serving:
    """A server with keys that has answered requests of every kind."""
    serving = serve(api_keys=f"operator={KEY}")
    use(serving)
    return serving


@pytest.fixture
def scraped(used: Serving) -> set[str]:
    """Names of the samples that a server gives."""
    families = text_string_to_metric_families(used.get("/metrics", headers=HEADERS).text)
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


@pytest.fixture
def prometheus(used: Serving, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus with our configuration, which scrapes the server each second."""
    config = msgspec.yaml.decode(PROMETHEUS.read_bytes())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS.parent / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [used.url.removeprefix("http://")]}]
    job["authorization"] = {"credentials": KEY}
    file = tmp_path / "prometheus.yaml"
    file.write_bytes(msgspec.yaml.encode(config))
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        address = next(found[1] for line in lines if (found := LISTENING.search(line)))
        log = Thread(target=lambda: [*lines])  # so that its log never waits for a reader
        log.start()
        yield f"http://{address}"
        process.terminate()
        log.join()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="asks a real Prometheus")
def test_prometheus_has_an_answer_to_every_query(prometheus: str, used: Serving) -> None:
    (documented,) = code_blocks("promql")
    queries = {
        *rules().keys(),
        *(re.sub(r"#.*", "", each) for each in documented.split("\n\n")),
        *(
            each.replace("$job", ".*").replace("$__rate_interval", "5m")
            for each in dashboard_expressions()
        ),
    }

    def answered() -> bool:
        use(used)
        for query in list(queries):
            answer = requests.get(
                f"{prometheus}/api/v1/query", params={"query": query}, timeout=SECONDS
            ).json()
            assert answer["status"] == "success", (query, answer)
            if answer["data"]["result"]:
                queries.remove(query)
        return not queries

    eventually(answered, f"no answer to {queries}")


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
