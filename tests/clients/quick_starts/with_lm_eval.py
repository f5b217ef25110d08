"""lm-evaluation-harness, by its `local-completions` model and tasks that are made here.

tests/clients/lm_eval_scores.py compares the printed values with those of `rocmforge score`.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import lm_eval

from tests.clients.given import MODEL, URL

BATCH = 8
QUESTIONS = (
    ("The capital of France is", ("Paris", "Rome", "seven")),
    ("The capital of Italy is", ("Paris", "Rome", "seven")),
    ("Two and two are", ("four", "five", "blue")),
    ("The colour of the sky is", ("blue", "four", "Rome")),
)
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "{{text}}",
    "metadata": {"version": 1},
}


def evaluated(folder: Path, task: dict[str, Any], rows: list[dict[str, Any]]) -> list[Any]:
    """The samples of a task that is made of rows."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {**TASK, **task, "dataset_kwargs": {"data_files": {"test": str(data)}}}
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={"model": MODEL, "base_url": f"{URL}/completions", "max_length": 512},
        tasks=[told],
        batch_size=BATCH,
        bootstrap_iters=0,
    )
    (samples,) = results["samples"].values()
    return list(samples)


def loglikelihood() -> None:
    rows = [{"text": text, "choices": list(choices)} for text, choices in QUESTIONS]
    choice = {
        "task": "capitals",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    with tempfile.TemporaryDirectory() as folder:
        samples = evaluated(Path(folder), choice, rows)
    found = {
        f"{sample['doc']['text']} {continuation}": float(answer[0])
        for sample in samples
        for continuation, answer in zip(
            sample["doc"]["choices"], sample["filtered_resps"], strict=True
        )
    }
    assert len(found) == 12
    assert all(math.isfinite(value) and value < 0 for value in found.values())
    print(json.dumps({"loglikelihoods": found}))


def generate_until() -> None:
    rows = [{"text": text} for text, _ in QUESTIONS] * 4
    generation = {
        "task": "continue",
        "output_type": "generate_until",
        "doc_to_target": "",
        "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 16, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    }
    with tempfile.TemporaryDirectory() as folder:
        samples = evaluated(Path(folder), generation, rows)
    answers = [sample["filtered_resps"][0] for sample in samples]
    assert len(answers) == 16
    assert answers[:4] * 4 == answers
    assert not any("\n" in answer or "." in answer for answer in answers)
