"""What every benchmark prints: a table for people, or one JSON object a line with --json."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rounds import Spread


@dataclass(slots=True)
class Figures:
    """The figures of one run."""

    as_json: bool
    context: dict[str, Any] = field(default_factory=dict)

    def add_spread(self, figure: str, found: Spread, unit: str, **more: Any) -> None:
        """Print the median of rounds, with their range."""
        self.add(
            figure, found.median, unit,
            **{"from": f"{found.lowest:.4g}", "to": f"{found.highest:.4g}", **more},
        )  # fmt: skip

    def add(
        self,
        figure: str,
        value: float | None,
        unit: str,
        *,
        better: str = "lower",
        target: float | None = None,
        **context: Any,
    ) -> None:
        """Print one figure; a value of None means that it could not be measured here."""
        shown = None if value is None else round(value, 4)
        if self.as_json:
            line = {
                "figure": figure,
                "value": shown,
                "unit": unit,
                "better": better,
                "target": target,
                "context": {**self.context, **context},
            }
            print(json.dumps(line), flush=True)
            return
        aim = "" if target is None else f"target {'≤' if better == 'lower' else '≥'} {target:g}"
        met = "" if target is None or shown is None else _verdict(shown, better, target)
        notes = ", ".join(f"{key} {text}" for key, text in context.items())
        print(f"{figure:28} {shown!s:>12} {unit:10} {aim:16} {met:6} {notes}", flush=True)

    def say(self, subject: str, words: Mapping[str, str]) -> None:
        """Print what is no number."""
        if self.as_json:
            print(json.dumps({"figure": subject, "value": None, "context": words}), flush=True)
            return
        for what, text in words.items():
            print(f"{subject:28} {what}: {text}", flush=True)


def start(
    description: str, *options: Callable[[argparse.ArgumentParser], None]
) -> tuple[Figures, argparse.Namespace]:
    """Read the command line that all benchmarks share; `options` add what one has besides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, under 60 s")
    for add in options:
        add(parser)
    arguments = parser.parse_args()
    context = {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "quick": arguments.quick,
    }
    return Figures(arguments.json, context), arguments


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _verdict(value: float, better: str, target: float) -> str:
    met = value <= target if better == "lower" else value >= target
    return "met" if met else "missed"
