"""Run the features of one quick start: `python -m tests.clients.call with_openai`.

Every function of a quick start is a feature. Prints a line of JSON of each: its name, and what it
failed with or null. Imports nothing, for every client's own environment runs it.
"""

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable


def features(name: str) -> dict[str, Callable[[], None]]:
    """The functions of a quick start that take nothing, by their name."""
    module = importlib.import_module(f"tests.clients.quick_starts.{name}")
    return {
        found: function
        for found, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not inspect.signature(function).parameters
    }


def main(name: str) -> None:
    """Run all features, also after one that fails."""
    for feature, function in features(name).items():
        failure = None
        try:
            function()
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
        print(json.dumps({"feature": feature, "failure": failure}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
