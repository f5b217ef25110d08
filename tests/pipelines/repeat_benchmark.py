"""How often the judge is wrong on this machine: a version against itself, or slowed down.

    python -m tests.pipelines.repeat_benchmark MODEL --repeats 20               # false alarms
    python -m tests.pipelines.repeat_benchmark MODEL --repeats 5 --slower 1.2  # what is caught

MODEL is a published name. With --save the measurements are kept, a JSON a line, and those that
stand there already are the nights before.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import msgspec

from pipelines.benchmark.judge import Earlier, judge
from pipelines.benchmark.measurement import BLOCK, BLOCKS, Measurement, measure, served_version
from pipelines.benchmark.record_report import described
from runtime.registry import Registry
from runtime.settings import Settings
from tests.pipelines.slowed_server import slowed


def saved(path: Path | None) -> list[Measurement]:
    """The quiet ones of a file."""
    lines = path.read_bytes().splitlines() if path is not None and path.exists() else ()
    found = [msgspec.json.decode(line, type=Measurement) for line in lines]
    return [measurement for measurement in found if measurement.is_quiet]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--slower", type=float, default=1.0)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    settings = Settings.from_environment()
    model = Registry(settings).current(options.model)
    assert model is not None
    plan = msgspec.structs.replace(BLOCK, stream_counts=tuple(options.streams))
    ours = served_version(model.name, model.version, settings)
    usual = replace(ours, name="itself")
    if options.slower > 1:
        ours = slowed(ours, options.slower)
    alarms, nights = 0, saved(options.save)
    for repeat in range(options.repeats):
        found = measure(
            (ours, usual), model.folder, settings, plan, options.blocks, lambda *told: None
        )
        verdicts = judge(found, Earlier(nights), {})
        kinds = {kind.name: kind for kind in found.result.kinds()}
        regressed = [verdict for verdict in verdicts if verdict.regressed]
        alarms += bool(regressed)
        print(
            f"{repeat + 1}: {found.result.seconds:.0f} s, others took "
            f"{found.result.others_processor_share:.0%}:",
            "; ".join(described(v, kinds[v.figure]) for v in regressed) or "nothing is worse",
            flush=True,
        )
        if found.is_quiet:
            nights.append(found)
        if options.save is not None:
            with options.save.open("ab") as file:
                file.write(msgspec.json.encode(found) + b"\n")
    print(f"{alarms} of {options.repeats} were called worse")


if __name__ == "__main__":
    main()
