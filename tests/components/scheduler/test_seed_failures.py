"""What broke, or would have broken, in the design that this project began with, case by case.

Two more are where their parts are tested: a worker whose clock is ten minutes off (test_post.py)
and sums beyond 64 bits (test_jobs.py).
"""

import dataclasses
import struct
from collections import Counter
from collections.abc import Callable

import pytest

from swarm_hub.components.sandbox import SANDBOX, CallResult
from swarm_hub.components.scheduler import (
    Failed,
    Finished,
    JobAdded,
    JobPlan,
    NodeChange,
    Send,
    StateMachine,
    Strategy,
    TimePassed,
)
from swarm_hub.components.scheduler.strategies import adaptive, round_robin, weighted
from swarm_hub.components.sla import expected
from swarm_hub.components.telemetry import TelemetryBoard
from swarm_hub.models.job import JobState
from swarm_hub.models.node import Telemetry
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
Create = Callable[[], Strategy]
MIB = 1024 * 1024

every_strategy = pytest.mark.parametrize(
    "create",
    [adaptive.create, weighted.create, round_robin.create],
    ids=["adaptive", "weighted", "round_robin"],
)


class Fleet:
    """A machine and nodes, each of which does what it is given, once it has failed enough."""

    def __init__(self, strategy: Strategy, n_items: int, shard_size: int | None = None) -> None:
        self.machine = StateMachine(strategy, expected.create(factor=2.0, initial_s=15))
        self.machine.handle(JobAdded(JobPlan("J", "m" * 64, n_items, shard_size, 10**9)), 0.0)
        self.items: Counter[str] = Counter()
        self.failures: list[str] = []

    def join(self, *telemetry: Telemetry) -> None:
        for number, told in enumerate(telemetry):
            self.machine.handle(NodeChange(f"n{number:02}", 1, told), 0.0)

    def run(self, failing: int = 0) -> None:
        """Run the job to its end, which must be a good one."""
        left = {f"n{number:02}": failing for number in range(100)}
        job = self.machine.job("J")
        assert job is not None
        now = 0.0
        while job.state is not JobState.COMPLETED:
            now += 1.0
            assert now < 1000, self.machine.why_waiting("J", now)
            self.machine.handle(TimePassed(), now)
            for each in self.machine.plan(now).instructions:
                if not isinstance(each, Send):
                    continue
                assignment_id = each.assignment.id
                if left[each.node_id]:
                    left[each.node_id] -= 1
                    told = self.machine.handle(Failed(assignment_id, "unreachable"), now)
                    self.failures += [node_id for _, node_id, _ in told.failures]
                    assert job.state is JobState.RUNNING
                elif self.machine.handle(Finished(assignment_id, 0.5), now).counted is not None:
                    self.items[each.node_id] += each.n_items


@every_strategy
def test_five_items_on_twelve_nodes_are_done_once_each(create: Create) -> None:
    # Shares of 5/12 item round down to nothing for everybody, or up to empty shards for seven.
    fleet = Fleet(create(), 5)
    fleet.join(*[Telemetry(cpu_percent=5.0, available_memory_bytes=1000 * MIB)] * 12)
    fleet.run()
    assert fleet.items.total() == 5


@every_strategy
def test_a_fleet_without_any_telemetry_does_the_job(create: Create) -> None:
    # Jobs awaited telemetry (`awaiting_telemetry`), which a phone may never be able to measure.
    fleet = Fleet(create(), 1000)
    fleet.join(*[Telemetry()] * 12)
    fleet.run()
    assert fleet.items.total() == 1000
    assert len(fleet.items) == 12


async def test_a_swarm_without_any_telemetry_does_the_job(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same through real hubs, none of which ever says anything of itself.
    monkeypatch.setattr(TelemetryBoard, "start", lambda _board, _interval_s: None)
    gateway = await swarm.gateway()
    for number in range(2):
        await swarm.worker(f"worker-{number}")
    _, body = await submit(gateway, modules["primes"], b"0:1000")
    assert (await finished(gateway, body["job_id"]))["result"] == 168
    told = (await call(gateway, "GET", "/nodes"))[1]["nodes"]
    assert [node["telemetry"] for node in told] == [Telemetry().to_wire()] * 2


@every_strategy
def test_a_node_that_reports_minus_one_percent_cpu_gets_its_part_and_no_more(
    create: Create,
) -> None:
    # The fitness was memory / (CPU + 1): a node at -1 % has all of it, or is a division by zero.
    usual = Telemetry(cpu_percent=0.0, available_memory_bytes=1000 * MIB)
    fleet = Fleet(create(), 900)
    fleet.join(dataclasses.replace(usual, cpu_percent=-1.0), usual, usual)
    fleet.run()
    assert fleet.items.total() == 900
    assert all(200 <= n_items <= 400 for n_items in fleet.items.values())


async def test_a_gateway_whose_clock_is_ten_minutes_fast_gets_its_job_done(
    swarm: Swarm, modules: Modules
) -> None:
    # Stale envelopes were taken for replays, which ban; by another clock every envelope is stale.
    clock = MovableClock()
    clock.offset_s = 600
    gateway = await swarm.gateway(clock=clock)
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 168
    told = (await call(gateway, "GET", "/nodes"))[1]["nodes"]
    assert [(node["state"], node["ban_reason"]) for node in told] == [("up", None)]


async def test_a_sum_of_shards_goes_beyond_32_bits(swarm: Swarm, modules: Modules) -> None:
    # Each shard's sum fits an i32; added up as one they wrap to a small or negative number.
    gateway = await swarm.gateway()
    for number in range(2):
        await swarm.worker(f"worker-{number}")
    numbers = [2**31 - 1] * 12 + [-5]
    packed = struct.pack(f"<{len(numbers)}i", *numbers)
    _, body = await submit(gateway, modules["sum"], packed, {"shard_size": 1})
    status = await finished(gateway, body["job_id"])
    assert status["result"] == status["total_sum"] == sum(numbers)


@every_strategy
def test_every_node_failing_once_is_one_failure_each_and_no_failed_job(create: Create) -> None:
    # What came back went to the first peer there was, so that one bad moment could be everyone's.
    fleet = Fleet(create(), 60, shard_size=1)
    fleet.join(*[Telemetry()] * 6)
    fleet.run(failing=1)
    assert fleet.items.total() == 60
    assert sorted(fleet.failures) == [f"n{number:02}" for number in range(6)]


async def test_a_swarm_in_which_every_node_fails_once_does_the_job_and_tells_of_each(
    swarm: Swarm, modules: Modules
) -> None:
    # The same through real hubs, and what the events say of it.
    gateway = await swarm.gateway()
    workers = [await swarm.worker(f"worker-{number}") for number in range(4)]
    for worker in workers:
        _fail_once(worker)

    async def up() -> int:
        return sum(n["state"] == "up" for n in (await call(gateway, "GET", "/nodes"))[1]["nodes"])

    await until(up, lambda n_up: n_up == len(workers))
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 50})
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 168)
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story?limit=1000")
    failed = [each["data"] for each in story["events"] if each["event_type"] == "shard_failed"]
    ids = [swarm.keys(f"worker-{number}")[0] for number in range(4)]
    assert sorted(each["node_id"] for each in failed) == sorted(ids)


def _fail_once(worker: RunningHub) -> None:
    sandbox = worker.hub.services[SANDBOX].sandbox
    honest, rest = sandbox.run, iter([True])

    async def run(*arguments: object, **options: object) -> CallResult:
        outcome = await honest(*arguments, **options)  # type: ignore[arg-type]
        if next(rest, False):
            return dataclasses.replace(outcome, code="trap", text="unreachable", output=b"")
        return outcome

    sandbox.run = run  # type: ignore[method-assign,assignment]
