"""Faults inside the hub: whichever function fails, it ends one job, message or request, no more."""

import asyncio
import functools
import importlib
import inspect
import os
import pkgutil
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import swarm_hub.components.gateway.dispatch
import swarm_hub.components.gateway.results
from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.scheduler.planner import Planner
from swarm_hub.components.scheduler.state import SchedulerState
from swarm_hub.components.worker import intake
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, submit

Modules = dict[str, bytes]
Place = tuple[Any, str]

PACKAGES = (swarm_hub.components.gateway.dispatch, swarm_hub.components.gateway.results)
ENDED = ("completed", "failed", "cancelled")
# Called once, while the hub is set up or stopped.
NOT_IN_A_JOB = {"__init__", "load", "start", "_resign", "hold_back"}


def places() -> Iterator[Place]:
    """Yield every function and method of the two packages: the object that has it, and its name."""
    for package in PACKAGES:
        for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                if getattr(value, "__module__", None) != module.__name__:
                    continue
                if inspect.isfunction(value):
                    yield module, name
                elif inspect.isclass(value):
                    for method, function in vars(value).items():
                        if inspect.isfunction(function) and not is_outside_of_jobs(method):
                            yield value, method


def is_outside_of_jobs(method: str) -> bool:
    return method in NOT_IN_A_JOB or (method.startswith("__") and method.endswith("__"))


PLACES = list(places())


def name_of(place: Place) -> str:
    return f"{getattr(place[0], '__name__', place[0]).rpartition('.')[2]}.{place[1]}"


class Fault:
    """Makes a function raise for the first `times` calls."""

    def __init__(self, place: Place, times: int) -> None:
        self.owner, self.name = place
        self.left = times
        self.hits = 0
        self.original = vars(self.owner)[self.name]

    def __enter__(self) -> "Fault":
        original = self.original

        def hit() -> None:
            if self.left > 0:
                self.left -= 1
                self.hits += 1
                raise RuntimeError(f"injected into {self.name}")

        replacement: Callable[..., Any]
        if inspect.isasyncgenfunction(original):

            @functools.wraps(original)
            async def replacement(*args: Any, **kwargs: Any) -> Any:
                hit()
                async for each in original(*args, **kwargs):
                    yield each

        elif inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def replacement(*args: Any, **kwargs: Any) -> Any:
                hit()
                return await original(*args, **kwargs)

        else:

            @functools.wraps(original)
            def replacement(*args: Any, **kwargs: Any) -> Any:
                hit()
                return original(*args, **kwargs)

        setattr(self.owner, self.name, replacement)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.original)


async def ends(hub: RunningHub, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            code, status = await call(hub, "GET", f"/jobs/{job_id}?wait=10")
            # A fault while a request is answered is that request's.
            if code != 500 and status["state"] in ENDED:
                return dict(status)


async def test_a_fault_in_any_function_stops_neither_the_hub_nor_other_jobs(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that gateways hear ACKs of these short shards, too.
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", 0.0)
    gateway = await swarm.gateway()
    await swarm.worker("one")
    await swarm.worker("two")
    reached = []
    # Each takes a third of a second, and now and then a node's patience; script/nightly tries all.
    tried = PLACES if os.environ.get("SWARM_HUB_EVERY_FAULT") else PLACES[5::12]
    for place in tried:
        with Fault(place, 1) as fault:
            code, body = await submit(
                gateway, modules["primes"], b"0:400", {"shard_size": 100, "redundancy": 2}
            )
            hit = body["job_id"] if code == 202 else None
            if hit is not None:
                status = await ends(gateway, hit)
                assert status["state"] in ENDED, name_of(place)
        if fault.hits:
            reached.append(name_of(place))
        code, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
        assert code == 202, (name_of(place), body)
        status = await ends(gateway, body["job_id"])
        assert status["state"] == "completed", (name_of(place), status["failures"])
        code, health = await call(gateway, "GET", "/health")
        assert (code, health["state"]) == (200, "running")
    # The packages' functions were really made to fail, not only patched.
    assert len(reached) >= len(tried) / 4, reached


@pytest.mark.parametrize(
    "place",
    [
        (Planner, "_give_wanting"), (Planner, "_give_pool"), (Planner, "_views"),
        (SchedulerState, "offer"), (SchedulerState, "give_back"), (SchedulerState, "_late"),
        (SchedulerState, "release"), (SchedulerState, "complete"), (SchedulerState, "move"),
    ],
    ids=name_of,
)  # fmt: skip
async def test_a_job_that_the_scheduler_fails_on_is_parked_and_others_go_on(
    swarm: Swarm, modules: Modules, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function fails for one job, always, and for no other."""
    gateway = await swarm.gateway()
    await swarm.worker("one")
    owner, name = place
    original = getattr(owner, name)
    poisoned: set[str] = set()

    def of(value: Any) -> str | None:
        return getattr(value, "job_id", None)

    @functools.wraps(original)
    def replacement(self: Any, *args: Any) -> Any:
        if any(of(value) in poisoned for value in args):
            raise OverflowError("int too large to convert to float")
        return original(self, *args)

    monkeypatch.setattr(owner, name, replacement)
    code, body = await submit(gateway, modules["primes"], b"0:4000", {"shard_size": 100})
    poisoned.add(body["job_id"])
    status = await ends(gateway, body["job_id"])
    # A function that this job never came to failed nothing.
    if status["state"] != "completed":
        assert status["state"] == "failed"
        assert status["failures"][0].startswith("internal: OverflowError"), status["failures"]
        _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
        kinds = [event["event_type"] for event in story["events"]]
        assert kinds[0] == "job_queued"
        assert kinds[-1] == "job_failed"
    code, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    assert code == 202
    assert (await ends(gateway, body["job_id"]))["state"] == "completed"


async def test_a_poisoned_job_of_an_older_version_is_parked_after_a_restart(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    code, body = await submit(gateway, modules["primes"], b"0:400", {"limits": {"memory": "1GiB"}})
    assert code == 202
    code, other = await submit(gateway, modules["primes"], b"0:400")
    await swarm.stop(gateway)
    database = sqlite3.connect(gateway.folder / "swarm_hub.db")
    with database:
        (spec,) = database.execute(
            "SELECT spec FROM jobs WHERE id = ?", (body["job_id"],)
        ).fetchone()
        database.execute(
            "UPDATE jobs SET spec = ? WHERE id = ?",
            (spec.replace(str(2**30), "1" + "0" * 400), body["job_id"]),
        )
    database.close()
    again = await swarm.gateway()
    await swarm.worker("one")
    status = await ends(again, other["job_id"])
    assert status["state"] == "completed"
    status = await ends(again, body["job_id"])
    assert status["state"] == "failed"
    assert status["failures"][0].startswith("internal: ")


async def test_a_result_whose_handling_failed_is_acknowledged_only_once_it_is_stored(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    acknowledged = []
    acknowledge = Dispatcher.acknowledge

    def noted(self: Dispatcher, node_id: str, assignment_id: str) -> None:
        acknowledged.append(assignment_id)
        acknowledge(self, node_id, assignment_id)

    monkeypatch.setattr(Dispatcher, "acknowledge", noted)
    with Fault((SchedulerState, "release"), 1) as fault:
        _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 400})
        status = await ends(gateway, body["job_id"])
    assert fault.hits == 1
    assert status["state"] == "completed"
    # Its first coming was not: the node still had it, and gave it again.
    assert acknowledged == [f"{body['job_id']}.0.1"]
