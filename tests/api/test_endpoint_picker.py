"""llm-d's endpoint picker finds in /metrics what it scrapes, as its configuration names it.

Source of what it reads: llm-d's router, core-metrics-extractor (a selector's first series, of a
gauge or a counter) and its built-in selectors for vLLM.
"""

import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.settings import Settings
from tests.api.serving import Serving
from tests.waiting import eventually

FOLDER = Path(__file__).parents[2] / "deploy" / "llm-d"
PICKERS = ("picker.yaml", "picker-kv-events.yaml")
SELECTOR = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?")

VLLM = {
    "queuedRequestsSpec": "vllm:num_requests_waiting",
    "runningRequestsSpec": "vllm:num_requests_running",
    "kvUsageSpec": "vllm:kv_cache_usage_perc",
}


def configured(name: str = PICKERS[0]) -> dict[str, Any]:
    """Parameters of each plugin by its type."""
    plugins = msgspec.yaml.decode((FOLDER / name).read_bytes())["plugins"]
    return {plugin["type"]: plugin.get("parameters", {}) for plugin in plugins}


def engine_config(name: str = PICKERS[0]) -> dict[str, str]:
    (found,) = configured(name)["core-metrics-extractor"]["engineConfigs"]
    return {name: spec for name, spec in found.items() if name.endswith("Spec")}


def series(text: str, selector: str) -> tuple[float, dict[str, str]]:
    """The value and labels of the series that the picker takes."""
    wanted = SELECTOR.fullmatch(selector)
    assert wanted is not None
    labels = dict(re.findall(r'(\w+)="?([^",]*)"?', wanted["labels"] or ""))
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.type in ("gauge", "counter") else ():
            if sample.name == wanted["name"] and labels.items() <= sample.labels.items():
                return sample.value, sample.labels
    raise AssertionError(f"there is no {selector}")


@pytest.fixture
def busy(serving: Serving) -> Serving:
    """A server whose first step computes a prompt of 40 tokens while another request waits."""
    serving.session.hold()
    for _ in range(2):
        body = {"prompt": [5] * 40, "max_tokens": 2}
        threading.Thread(
            target=serving.post, args=("/v1/completions",), kwargs={"json": body}
        ).start()
    eventually(lambda: len(serving.services.requests.running()) == 2)
    serving.session.wait_for_step()
    return serving


@pytest.mark.parametrize("specs", [engine_config(), VLLM], ids=["own", "vllm"])
def test_a_picker_reads_queue_running_requests_and_cache_use(
    busy: Serving, specs: dict[str, str]
) -> None:
    now = busy.model.engine.statistics()
    text = busy.get("/metrics").text
    assert series(text, specs["queuedRequestsSpec"])[0] == now.queued
    assert series(text, specs["runningRequestsSpec"])[0] == now.active
    assert now.queued + now.active == 2
    assert series(text, specs["kvUsageSpec"])[0] == now.pages_used / now.pages_total > 0
    busy.session.let_go()


def test_a_picker_reads_page_size_and_number_as_gauges_and_as_labels(serving: Serving) -> None:
    specs, text = engine_config(), serving.get("/metrics").text
    settings = serving.services.settings
    pages = settings.cache_tokens // settings.page_size
    assert series(text, specs["cacheBlockSizeSpec"])[0] == settings.page_size
    assert series(text, specs["cacheNumBlocksSpec"])[0] == pages
    _, labels = series(text, "vllm:cache_config_info{model_name=tiny}")
    assert (labels["block_size"], labels["num_gpu_blocks"]) == (str(settings.page_size), str(pages))


def test_every_endpoint_is_an_ipv4_address_with_the_engine_that_is_configured() -> None:
    (engine,) = configured()["core-metrics-extractor"]["engineConfigs"]
    for endpoint in msgspec.yaml.decode((FOLDER / "endpoints.yaml").read_bytes())["endpoints"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", endpoint["address"])
        assert endpoint["port"].isdecimal()
        assert endpoint["labels"]["llm-d.ai/engine-type"] == engine["name"]


def test_both_configurations_read_the_same_and_refer_only_to_plugins_that_they_have() -> None:
    assert engine_config(PICKERS[0]) == engine_config(PICKERS[1])
    for name in PICKERS:
        referred = set(re.findall(r"pluginRef: (\S+)", (FOLDER / name).read_text()))
        assert referred <= configured(name).keys()


def test_pages_of_the_default_size_are_what_the_router_is_told_of() -> None:
    tokens = configured("picker-kv-events.yaml")["precise-prefix-cache-producer"]
    assert tokens["tokenProcessorConfig"]["blockSizeTokens"] == Settings().page_size
