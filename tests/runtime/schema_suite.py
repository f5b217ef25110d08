"""JSON-Schema-Test-Suite against our grammars: `make schema-suite`.

The suite stands in the source package of jsonschema, which pip downloads at need, or in a checkout
that is named. Of each schema that we take, every valid instance must be a text that the grammar
allows, every invalid one must be none, and what is drawn from the masks at random must be valid.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from runtime.errors import InvalidRequest
from runtime.gguf import GGUFFile
from runtime.grammar import Grammar, GrammarCompiler, Matcher
from runtime.grammar.schema import FORMATS
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama

REQUIREMENT = "jsonschema==4.26.0"
DRAFT = "draft2020-12"
MAX_ORDERS = 200
"""Orders of an instance's properties that are tried: ours come in the schema's order."""
WALKS = 4
"""Texts that are drawn for each schema."""
MAX_WALK = 300
"""Tokens of one of them; a longer one is given up."""


@dataclass(slots=True)
class Findings:
    """What was found over all schemas. Owned by one run."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Schemas that we refuse, by our words."""
    wrong: list[str] = field(default_factory=list)


def fits(matcher: Matcher, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is one that a grammar allows, as a whole."""
    for token in tokenizer.encode(text, add_special=False):
        if token not in matcher.masks()[0]:
            return False
        matcher.advance(token)
    return matcher.ended or may_end(matcher, tokenizer)


def may_end(matcher: Matcher, tokenizer: Tokenizer) -> bool:
    """Whether the text may end here."""
    (allowed,) = matcher.masks()
    return any(token in allowed for token in tokenizer.end_of_generation)


def walked(matcher: Matcher, tokenizer: Tokenizer, draws: np.random.Generator) -> str | None:
    """A text that a grammar allows, drawn at random; None where it goes on for too long."""
    ends = tokenizer.end_of_generation
    found: list[int] = []
    while len(found) < MAX_WALK:
        allowed = np.flatnonzero(matcher.masks()[0].array(tokenizer.vocabulary_size))
        token = int(draws.choice(allowed))
        if token in ends or (len(found) > MAX_WALK // 4 and may_end(matcher, tokenizer)):
            break
        matcher.advance(token)
        found.append(token)
        if matcher.ended:
            break
    else:
        return None
    return b"".join(map(tokenizer.token_bytes, found)).decode()


def written(value: Any) -> Iterator[str]:
    """The texts of an instance: its properties in every order, whole numbers without a point."""
    for each in itertools.islice(_ordered(value), MAX_ORDERS):
        yield json.dumps(each, ensure_ascii=False, separators=(",", ":"))


def _ordered(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for names in itertools.permutations(value):
            for values in itertools.product(*(list(_ordered(value[name])) for name in names)):
                yield dict(zip(names, values, strict=True))
    elif isinstance(value, list):
        for items in itertools.product(*(list(_ordered(item)) for item in value)):
            yield list(items)
    else:
        yield value
        if isinstance(value, float) and value.is_integer():
            yield int(value)


def examine(
    compiler: GrammarCompiler, tokenizer: Tokenizer, name: str, group: Any, findings: Findings
) -> None:
    """Try one schema of the suite with its instances."""
    schema = group["schema"]
    try:
        start = compiler.matcher(Grammar.json_schema(schema, field="schema", white_space=False))
    except InvalidRequest as error:
        findings.refused[str(error).partition(", at ")[0]] += 1
        return
    findings.counts["schemas taken"] += 1
    for test in group["tests"]:
        allowed = any(fits(start.copy(), tokenizer, text) for text in written(test["data"]))
        findings.counts["instances"] += 1
        if name in FORMATS and test["valid"] and not allowed:
            findings.counts["instances of formats that are valid and never written"] += 1
        elif allowed is not test["valid"]:
            is_valid = "valid" if test["valid"] else "invalid"
            findings.wrong.append(f"{name}: {group['description']}: {is_valid} {test['data']!r}")
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for seed in range(WALKS):
        text = walked(start.copy(), tokenizer, np.random.default_rng(seed))
        findings.counts["texts drawn" if text is not None else "texts given up"] += 1
        if text is not None and not validator.is_valid(json.loads(text)):
            findings.wrong.append(f"{name}: {group['description']}: drawn {text}")


def fetched(folder: Path) -> Path:
    """The suite's tests, downloaded by pip where they aren't there yet."""
    placed = folder / f"{REQUIREMENT}-suite"
    if not placed.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            options = ["--no-deps", "--no-binary", "jsonschema", "--dest", name]
            command = [sys.executable, "-m", "pip", "download", *options, REQUIREMENT]
            subprocess.run(command, stdout=sys.stderr, check=True)
            (archive,) = Path(name).glob("*.tar.gz")
            with tarfile.open(archive) as members:
                members.extractall(name, filter="data")
            (suite,) = Path(name).glob("*/json")
            suite.rename(placed)
    return placed


def main() -> int:
    """Print what was found; 1 where something is wrong that is not known."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", nargs="?", type=Path, help="a checkout; else pip downloads it")
    arguments = parser.parse_args()
    suite = arguments.suite or fetched(Settings.from_environment().cache_folder)
    findings = Findings()
    with tempfile.TemporaryDirectory() as name:
        file = GGUFFile.open(write_tiny_llama(Path(name) / "tiny.gguf"))
        tokenizer = Tokenizer.from_gguf(file)
        compiler = GrammarCompiler(tokenizer)
        tests = suite / "tests" / DRAFT
        # A format alone is a note there; that it holds is what the optional tests are about.
        main = {path for path in tests.glob("*.json") if path.stem != "format"}
        formats = (tests / "optional" / "format").glob("*.json")
        for path in sorted({*main, *(path for path in formats if path.stem in FORMATS)}):
            for group in json.loads(path.read_text(encoding="utf-8")):
                examine(compiler, tokenizer, path.stem, group, findings)
    for words, count in findings.refused.most_common():
        print(f"{count:4} refused: {words}")
    for what, count in findings.counts.items():
        print(f"{count:4} {what}")
    for line in findings.wrong:
        print(f"WRONG {line}")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
