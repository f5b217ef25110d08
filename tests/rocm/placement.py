"""On which provider the nodes of a model ran, as ONNX Runtime's profile has it."""

from pathlib import Path
from typing import Any

import msgspec

from runtime.device.provider import CPU_PROVIDER


def on_cpu(profile: Path) -> list[str]:
    """Operators of the nodes that did not run on the GPU's provider, Memcpy nodes among them."""
    events: list[dict[str, Any]] = msgspec.json.decode(profile.read_bytes())
    nodes = [event["args"] for event in events if event.get("cat") == "Node"]
    placed = {(each["op_name"], each["provider"]) for each in nodes if "provider" in each}
    copies = {each for each, _ in placed if each.startswith("Memcpy")}
    assert any(provider != CPU_PROVIDER for _, provider in placed)
    return sorted(copies | {each for each, provider in placed if provider == CPU_PROVIDER})
