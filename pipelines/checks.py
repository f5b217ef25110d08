"""The checks that block publishing, as asset checks of onnx_model."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
import msgspec

from pipelines.assets import failures_shown, gguf_models, onnx_model, rounded, staging_folder
from pipelines.conversion.architectures import describe
from pipelines.picture_metadata import in_markdown
from pipelines.resources import MACHINE_POOL, ModelPreparation
from pipelines.validation import CHECKS, pictures, validate_in_child
from pipelines.validation.limits import most_divergence
from pipelines.validation.logits import MAX_OPERATOR_ERROR
from runtime.gguf import GGUFFile
from runtime.manifest import CheckResult, Manifest
from runtime.progress import Progress

LINES = {
    "prefill_divergence": "a prefill",
    "cached_divergence": "upon a cached prefix",
    "passage_divergence": "the passage",
}
"""Series of a check by position, and their names in its picture."""


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            name,
            asset=onnx_model,
            description=check.step,
            blocking=True,
            partitions_def=gguf_models,
        )
        for name, check in CHECKS.items()
    ],
    pool=MACHINE_POOL,
)
def onnx_model_checks(
    context: dg.AssetCheckExecutionContext, preparation: ModelPreparation
) -> Iterator[dg.AssetCheckResult]:
    """Validate the converted model and note the results in its manifest."""
    with failures_shown(), preparation.machine():
        folder = staging_folder(context, preparation)
        manifest = Manifest.read(folder)
        log = LoggedProgress(context.log.info)
        results = validate_in_child(folder, preparation.settings, log.begin, log.amount)
        msgspec.structs.replace(manifest, checks=results).write(folder)
    done = {result.name: result for result in results}
    has_experts = describe(GGUFFile.open(*manifest.weights_paths(folder))).has_experts
    limit = most_divergence(manifest.block_formats, has_experts=has_experts)
    for name in CHECKS:
        yield shown(done[name], limit) if name in done else _not_run(name, results[-1])


class LoggedProgress:
    """A line for each step and each tenth of it in a run's log. Owned by one thread."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._progress = Progress()
        self._step = ""

    def begin(self, step: str) -> None:
        """Log a step that begins."""
        self._step = step
        self._progress.begin()
        self._write(step)

    def amount(self, done: int, total: int) -> None:
        """Log how far it is."""
        if self._progress.is_next_tenth(done, total):
            self._write(f"{self._step}: {self._progress.words(done, total)}")


def shown(result: CheckResult, limit: float) -> dg.AssetCheckResult:
    """Return a result for Dagster; an accepted failure is a warning, which blocks nothing."""
    accepted = "; published all the same, as accept_check says" if result.is_accepted else ""
    severity = dg.AssetCheckSeverity.WARN if accepted else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        asset_key=onnx_model.key,
        check_name=result.name,
        passed=result.passed,
        severity=severity,
        description=f"{result.summary}{accepted}",
        metadata={
            **{name: rounded(value) for name, value in result.figures.items()},
            "seconds": rounded(result.seconds),
            **_pictures(result.series, limit),
        },
    )


def _pictures(series: Mapping[str, Sequence[float]], limit: float) -> dict[str, dg.MetadataValue]:
    """Plot the series of a check."""
    drawn: dict[str, dg.MetadataValue] = {}
    by_position = {name: series[key] for key, name in LINES.items() if key in series}
    if by_position:
        drawn["divergence_picture"] = in_markdown(
            pictures.by_position(by_position, limit),
            "divergence from the exact model at each token",
        )
    if "layer_error" in series:
        drawn["layers_picture"] = in_markdown(
            pictures.by_layer(
                series["layer_operator_error"], series["layer_error"], MAX_OPERATOR_ERROR
            ),
            "error of each layer",
        )
    return drawn


def _not_run(name: str, failed: CheckResult) -> dg.AssetCheckResult:
    """The result of a check that an earlier one's failure left out: a warning, no failure."""
    return dg.AssetCheckResult(
        asset_key=onnx_model.key,
        check_name=name,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"not run, since {failed.name} failed",
    )
