"""How sure the judge is, on nights that are drawn: what stays red, false alarms, and its intervals.

    python -m tests.pipelines.simulate_judge            # the table, in some minutes
    python -m tests.pipelines.simulate_judge --runs 10  # roughly

A night's figures are log-normal: a night has luck of its own, and so has a round. For intervals
each process has luck of its own instead, which all rounds of its block share.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from math import log

import numpy as np
from numpy.typing import NDArray

from pipelines.benchmark.history import Record
from pipelines.benchmark.judge import Earlier, judge
from pipelines.benchmark.measurement import BLOCK, BLOCKS, Measurement
from tests.pipelines.measurements import measurement

FIGURES = (
    "prefill_tokens_per_second",
    "decode_short_tokens_per_second",
    "decode_long_tokens_per_second",
    "decode_copying_tokens_per_second",
    "streams_1_tokens_per_second",
    "streams_1_first_token_p50_ms",
    "streams_1_between_tokens_p50_ms",
    "prefix_cold_ms",
)
"""Eight, all of which 1.10 times worse is allowed of."""
SPREADS = ((0.02, 0.03), (0.05, 0.05), (0.08, 0.08))
"""Standard deviations of the logarithm: between nights, and of the rounds of one."""
ROUNDS = BLOCK.single_rounds
WORSE_FROM = (5, 8, 12, 25)
NIGHTS_WORSE = 12
QUIET_NIGHTS = 60


def nights(
    random: np.random.Generator, count: int, between: float, within: float, worse: float = 1.0
) -> Iterator[Measurement]:
    """Nights of one server that is slower by a factor."""
    for _ in range(count):
        yield measurement(
            {
                figure: drawn(random, figure, worse, random.normal(0, between), within)
                for figure in FIGURES
            },
            stream_counts=(1,),
        )


def drawn(
    random: np.random.Generator, figure: str, worse: float, luck: float, within: float
) -> list[float]:
    """The samples of a figure in a night with this luck."""
    logarithms = log(worse) + luck + random.normal(0, within, BLOCKS * ROUNDS)
    sign = -1 if figure.endswith("per_second") else 1
    samples: list[float] = (100 * np.exp(sign * logarithms)).tolist()
    return samples


def red_nights(
    random: np.random.Generator, good: int, between: float, within: float, worse: float, count: int
) -> list[bool]:
    """Whether each of `count` nights is red, worse by a factor than the `good` ones before."""
    known = list(nights(random, good, between, within))
    found = []
    for night in nights(random, count, between, within, worse):
        verdicts = judge(night, Earlier(known), {})
        found.append(any(verdict.regressed for verdict in verdicts))
        known.append(night)
    return found


def blocks_beside(random: np.random.Generator, luck: float, worse: float) -> Record:
    """A night of two versions whose processes have luck of their own."""

    def side(figure: str, factor: float) -> NDArray[np.float64]:
        of_process = np.repeat(random.normal(0, luck, BLOCKS), ROUNDS)
        sign = -1 if figure.endswith("per_second") else 1
        noise = of_process + random.normal(0, 0.03, BLOCKS * ROUNDS)
        samples: NDArray[np.float64] = 100 * np.exp(sign * (noise + log(factor)))
        return samples

    found = measurement(
        {figure: side(figure, worse).tolist() for figure in FIGURES},
        {figure: side(figure, 1.0).tolist() for figure in FIGURES},
        stream_counts=(1,),
    )
    return Record(model="drawn", version=2, measurement=found, verdicts=judge(found, Earlier(), {}))


def covered(record: Record, worse: float) -> list[bool]:
    """Of each figure, whether its interval holds how much worse it is."""
    intervals = (verdict.times_worse for verdict in record.verdicts)
    return [each is not None and each.low <= worse <= each.high for each in intervals]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    print(f"20 % slower from a night on, {len(FIGURES)} figures, {runs} runs each")
    print("nights/rounds  from night  1st night red  by the 3rd  12th night red  green after red")
    for between, within in SPREADS:
        for first in WORSE_FROM:
            random = np.random.default_rng(first)
            table = np.array(
                [
                    red_nights(random, first - 1, between, within, 1.2, NIGHTS_WORSE)
                    for _ in range(runs)
                ]
            )
            relapsed = np.mean([any(a > b for a, b in pairwise(row)) for row in table])
            print(
                f"{between:.0%}/{within:.0%}{first:16}{table[:, 0].mean():14.0%}"
                f"{table[:, :3].any(axis=1).mean():13.0%}{table[:, -1].mean():14.0%}"
                f"{relapsed:16.0%}",
                flush=True,
            )
    print("false alarms a night: nights 4-8, 9-12, 13-30, 31-60")
    for between, within in SPREADS:
        random = np.random.default_rng(0)
        known = np.array(
            [
                red_nights(random, 0, between, within, 1.0, QUIET_NIGHTS)
                for _ in range(max(1, runs // 4))
            ]
        )
        shares = [known[:, a:b].mean() for a, b in ((3, 8), (8, 12), (12, 30), (30, 60))]
        print(f"{between:.0%}/{within:.0%}", *(f"{share:10.1%}" for share in shares), flush=True)
    print("luck of a process  95 % interval holds the truth  20 % slower caught, a figure  a night")
    for luck in (0.0, 0.03, 0.05, 0.08):
        random = np.random.default_rng(1)
        records = [blocks_beside(random, luck, 1.2) for _ in range(5 * runs)]
        holds = np.mean([covered(record, 1.2) for record in records])
        caught = np.mean([[v.regressed for v in record.verdicts] for record in records])
        a_night = np.mean([bool(record.regressed) for record in records])
        print(f"{luck:.0%}{holds:25.1%}{caught:30.1%}{a_night:20.1%}", flush=True)


if __name__ == "__main__":
    main()
