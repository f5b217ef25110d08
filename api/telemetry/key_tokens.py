"""Tokens by API key."""

import threading
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from api.telemetry.request_context import context_of
from runtime.generation import Generation

MOST_KEYS = 1000
"""Keys with a series of their own: a key file may get new names for as long as a server runs."""
OTHERS = "(others)"
"""Label of the keys beyond; no key can have this name."""


class KeyTokens(Collector):
    """Counts the tokens of each API key. Any thread may call any method: a lock guards the counts.

    Without keys it has no series.
    """

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most_keys = most_keys
        self._tokens: dict[str, tuple[int, int]] = {}
        """Tokens of prompts and of answers."""
        self._lock = threading.Lock()

    def finished(self, generation: Generation) -> None:
        """Count an ended request; its prompt only once for several answers."""
        if (context := context_of(generation)) is not None:
            prompt = 0 if generation.leader else len(generation.prompt_tokens)
            self.count(context.key, prompt, generation.token_count)

    def count(self, key: str | None, prompt: int, generated: int = 0) -> None:
        """Count tokens of the key with a name; nothing of a request without a key."""
        if key is None:
            return
        with self._lock:
            if key not in self._tokens and len(self._tokens) >= self._most_keys:
                key = OTHERS
            before = self._tokens.get(key, (0, 0))
            self._tokens[key] = before[0] + prompt, before[1] + generated

    def describe(self) -> list[Metric]:
        """Return nothing: there are no keys yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of one scrape."""
        with self._lock:
            tokens = dict(self._tokens)
        if not tokens:
            return
        family = CounterMetricFamily(
            "rocmforge_key_tokens",
            "Total number of tokens of prompts and answers by API key",
            labels=["key", "kind"],
        )
        for key, (prompt, generated) in tokens.items():
            family.add_metric([key, "prompt"], prompt)
            family.add_metric([key, "generated"], generated)
        yield family
