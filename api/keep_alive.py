"""How long a model stays loaded, as Ollama's clients say it."""

import math
import re

from runtime.errors import InvalidRequest

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|µs|ns|h|m|s)")
NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")


def seconds_of(keep_alive: float | str | None) -> float | None:
    """Return the seconds of a number or of a text such as 5m or 1h30m; None where none is given.

    What is negative means for ever. Raises InvalidRequest. Source: docs/api.md and
    docs/faq.md of Ollama.
    """
    if keep_alive is None:
        return None
    text = str(keep_alive).strip()
    if NUMBER.fullmatch(text):
        seconds = float(text)
    else:
        amount = text.removeprefix("-")
        parts = PART.findall(amount)
        if not parts or "".join(number + unit for number, unit in parts) != amount:
            raise InvalidRequest(
                "keep_alive takes seconds, or a text such as 5m or 1h30m", field="keep_alive"
            )
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        seconds = -1.0 if text.startswith("-") else seconds
    return math.inf if seconds < 0 else seconds
