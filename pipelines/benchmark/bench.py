"""The measurements of `rocmforge bench`: servers side by side, curves of cost, a verdict."""

from importlib.metadata import version
from pathlib import Path

from pipelines.benchmark.growth import GrowthPlan, GrowthResult, measure_growth
from pipelines.benchmark.history import Record, judged
from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.peers import llama_cpp
from pipelines.benchmark.results import BenchmarkResult
from pipelines.benchmark.run import Progress, benchmark
from pipelines.benchmark.task import Task, task_of
from pipelines.benchmark.workloads import Plan
from runtime.gguf import GGUFFile
from runtime.loading import tokenizer_cache
from runtime.manifest import Manifest
from runtime.server_process import Candidate, rocmforge
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer


class Subject:
    """A prepared model and the servers that are measured with it. Immutable."""

    def __init__(
        self,
        model: str,
        folder: Path,
        settings: Settings,
        *,
        prompt_lookup: bool = False,
        peers: bool,
    ) -> None:
        """Take the model of a folder, which servers know as `model`.

        prompt_lookup: measure our server with it, too. peers: measure llama.cpp's; raises
        BenchmarkError if there is none on this machine.
        """
        self.manifest = Manifest.read(folder)
        weights = self.manifest.weights_paths(folder)
        self.tokenizer = Tokenizer.from_gguf(GGUFFile.open(*weights), tokenizer_cache(settings))
        self.threads = settings.thread_count
        ours = version("rocmforge")
        self.candidates: list[Candidate] = [rocmforge(model, settings, ours)]
        if prompt_lookup:
            self.candidates.append(rocmforge(model, settings, ours, prompt_lookup=True))
        if peers:
            self.candidates.append(llama_cpp(weights[0], settings.thread_count))

    def benchmark(self, plan: Plan, progress: Progress) -> BenchmarkResult:
        """Measure the servers side by side. Raises BenchmarkError."""
        return benchmark(
            self.candidates,
            self.manifest,
            self.tokenizer,
            threads=self.threads,
            plan=plan,
            progress=progress,
        )

    def growth(self, progress: Progress) -> GrowthResult:
        """Measure how cost grows with context, streams and requests. Raises BenchmarkError."""
        return measure_growth(
            self.candidates,
            self.manifest,
            self.tokenizer,
            threads=self.threads,
            plan=GrowthPlan(),
            progress=progress,
        )


def measure_against(
    model: str,
    against: str,
    settings: Settings,
    progress: Progress,
    *,
    blocks: int,
    accepted: bool,
) -> Record:
    """Measure a published model with another version, judge it and add it to the model's history.

    against: as for `task_of`. accepted: whether the result is the usual from now on, however it is
    judged. Raises what `task_of` and measuring raise.
    """
    task = task_of(model, against, settings, blocks=blocks)
    return judged_measurement(task, task.measure(settings, progress), settings, accepted=accepted)


def judged_measurement(
    task: Task, measurement: Measurement, settings: Settings, *, accepted: bool
) -> Record:
    """Judge the measurement of a task and add it to the model's history."""
    record = Record(
        model=task.model, version=task.version, measurement=measurement, accepted=accepted
    )
    return judged(record, settings)
