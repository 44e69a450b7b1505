"""How long jobs take on simulated fleets, against the least time that any schedule would need.

The strategies and the state machine are the hub's own code; simulated are only nodes, network and
time (`simulation.py` says how, `simulated_fleet.py` what the least time is). A job that does not
end is an error with the machine's story, and the exit code is 1.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from figures import Figures, start
from plot import Spread, log_plot
from simulated_fleet import Scenario
from simulation import HungJobError, Run, simulate

from swarm_hub.components.scheduler import Strategy, adaptive_redundancy
from swarm_hub.components.scheduler.strategies import adaptive, round_robin, weighted

_STRATEGIES: Final[dict[str, Callable[[], Strategy]]] = {
    "adaptive": adaptive.create,
    "weighted": weighted.create,
    "round_robin": round_robin.create,
}
# (nodes, churn in %, target of the mean ratio for adaptive)
_FLEETS: Final = ((10, 5, 1.2), (100, 5, 1.2), (1000, 5, 1.2), (100, 20, 1.3), (1000, 20, 1.3))
_MANY: Final = 1000
_LARGE: Final = 10_000
# Enough to keep every node busy for a while; a decision costs the same in a longer job.
_LARGE_ITEMS_A_NODE: Final = 10
_LARGE_IDEAL_S: Final = 60.0
# The share of slow links, and that of phones, which stop for a while or for good.
_ROUGH: Final = 0.1
_OTHER_IDEALS_S: Final = (60.0, 600.0)
_LIARS_SHARE: Final = 0.2
# (name, how often a liar lies, whether all liars tell the same lie)
_LIARS: Final = (
    ("always", 1.0, False), ("half", 0.5, False), ("tenth", 0.1, False), ("colluding", 1.0, True)
)  # fmt: skip
# A job whose decisions take more CPU time than this is given up: for one seed, for the fleet of
# ten thousand, and with --quick for adaptive and for the others.
_FULL_MAX_S: Final = 60.0
_LARGE_MAX_S: Final = 120.0
_QUICK_MAX_S: Final = 10.0
_QUICK_REST_MAX_S: Final = 2.0


class _Sweep:
    """The runs of one command: over seeds, with a bound on what their decisions may cost."""

    def __init__(self, figures: Figures, arguments: argparse.Namespace) -> None:
        self._figures = figures
        self._quick: bool = arguments.quick
        self._n_seeds: int = arguments.seeds or (3 if arguments.quick else 10)
        self._ideal_s: float = arguments.ideal_s
        self.spreads: list[Spread] = []
        self.n_hung = 0
        self._of_adaptive: list[Run] = []

    def ratios(self) -> None:
        """Measure every fleet with every strategy."""
        for n_nodes, churn, target in _FLEETS:
            scenario = Scenario(n_nodes, churn / 100, self._ideal_s)
            name = f"makespan_ratio_{n_nodes}_{churn}"
            group = f"{n_nodes:,} nodes, {churn} %"
            for strategy in _STRATEGIES:
                if strategy == "adaptive":
                    runs = self._measure(name, scenario, strategy, target)
                    self._of_adaptive += runs
                else:
                    runs = self._measure(f"{name}_{strategy}", scenario, strategy, None)
                ratios = tuple(run.ratio for run in runs)
                self.spreads.append(Spread(group, strategy, ratios))

    def repeated(self) -> None:
        """Sum up what adaptive ran twice in these."""
        percents = [run.repeated_percent for run in self._of_adaptive]
        value = statistics.fmean(percents) if percents else None
        self._figures.add("duplicates_percent", value, "%", target=2, **_spread(percents))

    def others(self) -> None:
        """Measure adaptive in a rougher fleet, and with a short and a long job."""
        rough = Scenario(100, 0.2, self._ideal_s, slow_links=_ROUGH, phones=_ROUGH)
        self._measure("makespan_ratio_100_20_rough", rough, "adaptive", None)
        for ideal_s in _OTHER_IDEALS_S:
            scenario = Scenario(100, 0.05, ideal_s)
            self._measure(f"makespan_ratio_100_5_of_{ideal_s:g}_s", scenario, "adaptive", None)

    def liars(self) -> None:
        """Measure what adaptive redundancy lets through, and what it costs, with 20 % liars."""
        for name, lies, colluding in _LIARS:
            scenario = Scenario(
                100, 0.05, self._ideal_s, liars=_LIARS_SHARE, lies=lies, colluding=colluding,
                redundancy=adaptive_redundancy(b"benchmark"),
            )  # fmt: skip
            try:
                runs = [
                    simulate(scenario, adaptive.create(), seed, decision_max_s=_FULL_MAX_S)
                    for seed in range(1, self._n_seeds + 1)
                ]
            except HungJobError as error:
                self._hung(f"wrong_per_1000_shards_{name}", 0, error)
                continue
            wrong = [1000 * run.wrong_shards / run.n_shards for run in runs]
            work = [1 + run.repeated_percent / 100 for run in runs]
            self._figures.add(
                f"wrong_per_1000_shards_{name}", statistics.fmean(wrong), "shards",
                target=None if colluding else 1, seeds=len(runs), **_spread(wrong),
                shards=sum(run.n_shards for run in runs),
            )  # fmt: skip
            self._figures.add(
                f"work_ratio_{name}", statistics.fmean(work), "ratio",
                target=None if colluding else 1.3, **_spread(work),
                makespan_ratio=round(statistics.fmean(run.ratio for run in runs), 3),
            )  # fmt: skip

    def large(self) -> None:
        """Measure what decisions and memory cost with ten thousand nodes."""
        scenario = Scenario(_LARGE, 0.05, _LARGE_IDEAL_S, _LARGE_ITEMS_A_NODE)
        strategy = _STRATEGIES["adaptive"]()
        bound_s = _QUICK_MAX_S if self._quick else _LARGE_MAX_S
        try:
            run = simulate(scenario, strategy, 1, weigh_state=True, decision_max_s=bound_s)
        except HungJobError as error:
            self._hung(f"decision_us_{_LARGE}", 1, error)
            return
        self._figures.add(
            f"decision_us_{_LARGE}", run.decision_us, "µs", target=1000,
            results=run.n_results, done_percent=_done_percent(run),
            ratio=round(run.ratio, 2) if run.ended else None,
            first_fill_ms=round(1000 * run.first_fill_s),
        )  # fmt: skip
        of_node = [round(size / _LARGE) for size in run.state_bytes]
        self._figures.add(
            f"state_bytes_per_node_{_LARGE}", max(of_node), "bytes", target=2048,
            at_first_result=of_node[0], at_half=of_node[1] if len(of_node) > 1 else None,
        )  # fmt: skip

    def _measure(
        self, name: str, scenario: Scenario, strategy: str, target: float | None
    ) -> list[Run]:
        """Run all seeds and print their figure; where one does not end there is none."""
        is_quick = self._quick and scenario.n_nodes >= _MANY
        bound_s = _FULL_MAX_S if not self._quick else _QUICK_MAX_S if target else _QUICK_REST_MAX_S
        runs: list[Run] = []
        for seed in range(1, 2 if is_quick else self._n_seeds + 1):
            try:
                run = simulate(scenario, _STRATEGIES[strategy](), seed, decision_max_s=bound_s)
            except HungJobError as error:
                self._hung(name, seed, error)
                return []
            if not run.ended:
                self._figures.add(
                    name, None, "ratio", target=target, seed=seed,
                    given_up_after_s=round(run.decision_s), results=run.n_results,
                    done_percent=_done_percent(run), decision_us=round(run.decision_us),
                )  # fmt: skip
                return []
            runs.append(run)
        ratios = [run.ratio for run in runs]
        mean = _mean_of(runs)
        self._figures.add(
            name, statistics.fmean(ratios), "ratio", target=target,
            seeds=len(runs), **_spread(ratios),
            repeated_percent=mean(lambda run: run.repeated_percent),
            lost_percent=mean(lambda run: run.lost_percent),
            messages_a_node=mean(lambda run: run.n_messages / scenario.n_nodes),
            decision_us=mean(lambda run: run.decision_us),
        )  # fmt: skip
        return runs

    def _hung(self, name: str, seed: int, error: HungJobError) -> None:
        self.n_hung += 1
        self._figures.add(name, None, "ratio", hung=True, seed=seed)
        print(f"{name}, seed {seed}: {error}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print and plot."""
    figures, arguments = start(__doc__ or "", _options)
    sweep = _Sweep(figures, arguments)
    sweep.ratios()
    sweep.repeated()
    sweep.others()
    sweep.liars()
    sweep.large()
    if arguments.plot is not None:
        arguments.plot.write_text(
            log_plot(
                "Makespan against the fluid lower bound",
                f"fleet and churn; a job of {arguments.ideal_s:g} s, mean, least and most of "
                "the seeds",
                "times the lower bound (log)",
                sweep.spreads,
            )
        )
    return 1 if sweep.n_hung else 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, help="how many fleets of each kind (10; quick: 3)")
    parser.add_argument("--ideal-s", type=float, default=300.0, help="the ideal time of a job")
    parser.add_argument("--plot", type=Path, help="write a plot (SVG) there")


def _done_percent(run: Run) -> float:
    return round(100 * run.counted_items / run.n_items, 1)


def _spread(values: list[float]) -> dict[str, Any]:
    if not values:
        return {}
    return {
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "stdev": round(statistics.pstdev(values), 3),
    }


def _mean_of(runs: list[Run]) -> Callable[[Callable[[Run], float]], float]:
    return lambda of: round(statistics.fmean(map(of, runs)), 2)


if __name__ == "__main__":
    sys.exit(main())
