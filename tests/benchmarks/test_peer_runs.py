"""Systems that are compared run in turns, and what can't run here is named."""

import pytest
from figures import Figures
from peer_runs import KINDS, OURS, Found, in_turns, show
from rounds import ROUNDS


class Fake:
    def __init__(self, name: str, log: list[str], at_work: set[str]) -> None:
        self._name, self._log, self._at_work = name, log, at_work
        self._spent_s = 0.0
        at_work.add(name)

    async def jobs(self, count: int) -> list[float]:
        assert self._name in self._at_work
        self._spent_s += 0.002 * count
        return [8.0] * count

    async def tasks(self, count: int) -> float:
        assert self._at_work == {self._name} or self._log == []
        self._log.append(self._name)
        self._spent_s += 0.001 * count
        return count / 500

    def cpu_s(self) -> float:
        return self._spent_s

    def rest(self, resting: bool) -> None:
        (self._at_work.discard if resting else self._at_work.add)(self._name)


async def test_each_round_has_another_one_first_while_the_others_rest() -> None:
    log: list[str] = []
    at_work: set[str] = set()
    systems = {name: Fake(name, log, at_work) for name in ("a", "b", "c")}
    for system in systems.values():
        system.rest(True)
    found = await in_turns(systems, quick=True)
    rounds = ["".join(log[at : at + 3]) for at in range(0, len(log), 3)]
    # The first one warms up.
    assert rounds == ["cab", "abc", "bca", "cab", "abc", "bca"]
    for each in found.values():
        assert each.p50_ms == [8.0] * ROUNDS
        assert each.tasks_per_s == pytest.approx([500.0] * ROUNDS)
        assert each.job_cpu_ms == pytest.approx([2.0] * ROUNDS)
        assert each.task_cpu_ms == pytest.approx([1.0] * ROUNDS)


def test_ratios_are_those_of_rounds_and_what_is_missing_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {
        OURS.name: Found([10.0, 30.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]),
        "nats-always": Found([10.0, 10.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]),
    }
    names = [kind.name for kind in KINDS]
    missing = {name: "no such thing" for name in names if name != "nats-always"}
    show(Figures(as_json=False), found, missing, names)
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "2.0 times" in shown["job_latency_to_nats-always"]
    assert "from 1, to 3" in shown["job_latency_to_nats-always"]
    for name in missing:
        assert "None" in shown[f"{name}_job_p50_ms"]
        assert "missing no such thing" in shown[f"{name}_job_p50_ms"]
    assert {f"{kind.name}_keeps" for kind in (OURS, *KINDS)} <= shown.keys()
