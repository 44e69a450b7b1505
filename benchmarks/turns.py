"""Two checkouts in turns: python benchmarks/turns.py BEFORE AFTER [--rounds N] [--benchmark job].

Each runs the benchmark of its own tree with `--quick --json`, one after the other, so that what the
machine does meanwhile meets both. For every figure that both have: the medians, and the median and
range of the ratios after/before of the pairs. A ratio of one pair says little on a busy machine;
how many cores others had busy meanwhile is printed for each run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine import foreign_cores, look

_WITHIN_S: Final = 900

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both sides; the ratios are those of the pairs."""

    figure: str
    before: float
    after: float
    ratio: float
    lowest: float
    highest: float


def compared(pairs: Sequence[tuple[Figures, Figures]]) -> list[Compared]:
    """Return every figure that is in all rounds of both sides, in the order of the first."""
    found = []
    for figure in pairs[0][0]:
        both = [(before.get(figure), after.get(figure)) for before, after in pairs]
        known = [(old, new) for old, new in both if old and new is not None]
        if len(known) == len(pairs):
            ratios = [new / old for old, new in known]
            found.append(
                Compared(
                    figure,
                    statistics.median(old for old, _ in known),
                    statistics.median(new for _, new in known),
                    statistics.median(ratios),
                    min(ratios),
                    max(ratios),
                )
            )
    return found


def run(tree: Path, benchmark: str) -> dict[str, float]:
    """Run a benchmark of a tree with the libraries of this Python."""
    done = subprocess.run(
        [sys.executable, str(tree / "benchmarks" / f"{benchmark}.py"), "--quick", "--json"],
        cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, timeout=_WITHIN_S, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["figure"]: line["value"] for line in lines if line["value"] is not None}


def main() -> None:
    """Compare two trees and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--benchmark", default="job")
    asked = parser.parse_args()
    trees = asked.before.resolve(), asked.after.resolve()
    pairs = []
    for number in range(asked.rounds):
        # The other one first each time: a machine that warms up or cools down favours neither.
        done = {}
        for tree in trees if number % 2 == 0 else trees[::-1]:
            before = look()
            done[tree] = run(tree, asked.benchmark)
            foreign = foreign_cores(before, look())
            side = "before" if tree == trees[0] else "after"
            print(
                f"round {number + 1} of {asked.rounds}, {side}: others had {foreign:.2f} cores",
                file=sys.stderr,
            )
        pairs.append((done[trees[0]], done[trees[1]]))
    print(f"{'figure':28} {'before':>12} {'after':>12} {'ratio':>7}  range")
    for each in compared(pairs):
        print(
            f"{each.figure:28} {each.before:12.4g} {each.after:12.4g} {each.ratio:7.3f}  "
            f"{each.lowest:.3f} to {each.highest:.3f}"
        )


if __name__ == "__main__":
    main()
