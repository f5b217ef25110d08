"""Ranges and meanings of the numbers that say how tokens are picked, on routes and commands.

Imports nothing slow, so that the command line can list them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import InvalidRequest

MAX_INTEGER = 2**63 - 1
MAX_SHOWN = 40
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a field may have, ends included. Immutable."""

    least: float
    most: float
    meaning: str = ""
    """What a value does, for whoever gives one."""
    whole: bool = False

    def checked(self, name: str, value: float) -> float:
        """Return the value; a whole number as an int, so 10.0 is 10. Raises InvalidRequest."""
        if self.whole:
            if (isinstance(value, float) and not math.isfinite(value)) or value != int(value):
                raise InvalidRequest(
                    f"{name} must be a whole number, not {_shown(value)}", field=name
                )
            if value < self.least:
                raise InvalidRequest(
                    f"{name} must be at least {self.least}, not {_shown(value)}", field=name
                )
            if value > self.most:
                raise InvalidRequest(
                    f"{name} must be at most {self.most}, not {_shown(value)}", field=name
                )
            return int(value)
        if not self.least <= value <= self.most:
            raise InvalidRequest(
                f"{name} must be between {self.least} and {self.most}, not {_shown(value)}",
                field=name,
            )
        return float(value)


RANGES: Mapping[str, Range] = {
    "temperature": Range(0.0, 2.0, "0 takes the likeliest token"),
    "dynatemp_range": Range(0.0, 2.0, "distance of the temperature to both sides, by entropy"),
    "dynatemp_exponent": Range(0.0, 10.0, "exponent of the entropy in that"),
    "top_k": Range(0, MAX_INTEGER, "keep the K likeliest tokens; 0 keeps all", whole=True),
    "top_p": Range(0.0, 1.0, "keep the likeliest tokens that reach this probability together"),
    "min_p": Range(0.0, 1.0, "drop tokens less likely than this share of the likeliest"),
    "typical_p": Range(
        0.0, 1.0, "keep the most typical tokens that reach this probability together"
    ),
    "top_n_sigma": Range(-1.0, 100.0, "drop logits this many deviations below the largest"),
    "xtc_probability": Range(0.0, 1.0, "how often XTC drops all likely tokens but the last"),
    "xtc_threshold": Range(0.0, 1.0, "probability from which on a token is likely for XTC"),
    "repetition_penalty": Range(0.01, 100.0, "divides the logits of tokens in the window"),
    "presence_penalty": Range(-2.0, 2.0, "subtracted from the logits of tokens in the window"),
    "frequency_penalty": Range(-2.0, 2.0, "subtracted once per occurrence in the window"),
    "repeat_last_n": Range(-1, 2**31 - 1, "last tokens that penalties count; -1 all", whole=True),
    "dry_multiplier": Range(0.0, 100.0, "DRY's penalty of a token that continues a repetition"),
    "dry_base": Range(1.0, 100.0, "factor of that penalty for each further token"),
    "dry_allowed_length": Range(0, 2**31 - 1, "tokens of a repetition that DRY allows", whole=True),
    "dry_penalty_last_n": Range(-1, 2**31 - 1, "last tokens that DRY searches; -1 all", whole=True),
    "min_tokens": Range(0, 2**31 - 1, "tokens before the answer may end", whole=True),
    "seed": Range(0, 2**64 - 1, "makes sampling repeatable", whole=True),
}
"""Each number of SamplingParameters."""


def _shown(value: float) -> str:
    return str(value)[:MAX_SHOWN]
