"""The checks that block publishing, as asset checks of onnx_model."""

from collections.abc import Iterator

import dagster as dg
import msgspec

from pipelines.assets import failures_shown, gguf_models, onnx_model, staging_folder
from pipelines.resources import ModelPreparation
from pipelines.validation import CHECKS, validate_apart
from runtime.manifest import CheckResult, Manifest


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
    ]
)
def onnx_model_checks(
    context: dg.AssetCheckExecutionContext, preparation: ModelPreparation
) -> Iterator[dg.AssetCheckResult]:
    """Validate the converted model and note the results in its manifest."""
    with failures_shown():
        folder = staging_folder(context)
        manifest = Manifest.read(folder)
        results = validate_apart(folder, preparation.settings, context.log.info)
        msgspec.structs.replace(manifest, checks=results).write(folder)
    done = {result.name: result for result in results}
    for name in CHECKS:
        yield _shown(done.get(name, _not_run(name, results[-1])))


def _shown(result: CheckResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=onnx_model.key,
        check_name=result.name,
        passed=result.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=result.summary,
        metadata={**result.figures, "seconds": result.seconds},
    )


def _not_run(name: str, failed: CheckResult) -> CheckResult:
    return CheckResult(name=name, passed=False, summary=f"not run: {failed.name} failed")
