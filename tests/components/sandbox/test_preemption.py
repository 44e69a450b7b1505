"""A shard that gives way is suspended while others wait for its slot; that is not its time."""

import asyncio
import random
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm_hub.components.sandbox.call import CallResult, SandboxError
from swarm_hub.components.sandbox.pool import Sandbox
from swarm_hub.components.sandbox.request import Answer
from tests.helpers import modules
from tests.helpers.sandboxes import MIB, Bench, is_alive, make_call, until

NewSandbox = Callable[..., Awaitable[Sandbox]]

ENDLESS, QUICK = b"1 0", b"0 7"


def start(
    bench: Bench, tag: str, data: bytes = ENDLESS, module: str = modules.MAYBE_ENDLESS,
    **changed: Any,
) -> asyncio.Task[CallResult]:  # fmt: skip
    """Run a shard by this name; with ENDLESS it never ends of itself."""

    async def run() -> CallResult:
        wasm = await bench.wasm(module)
        call = make_call(wasm, "range", **{"wall_time_s": 60.0, **changed})
        return await bench.sandbox.run(call, data, bench.loader(wasm), tag=tag)

    return asyncio.ensure_future(run())


async def begun(bench: Bench, tag: str) -> psutil.Process:
    """Wait until a child has begun a shard; returns its process."""
    await until(lambda: tag in bench.sandbox.begun(), timeout_s=30)
    (child,) = (child for child in bench.sandbox._children if child.running == tag)
    return psutil.Process(child.pid)


def is_stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


async def goes_on(process: psutil.Process) -> None:
    """Wait until a process uses the CPU."""
    before = process.cpu_times().user
    await until(lambda: process.cpu_times().user > before, timeout_s=30)


async def suspended(bench: Bench, tag: str = "long", **changed: Any) -> tuple[
    asyncio.Task[CallResult], psutil.Process, asyncio.Task[CallResult]
]:  # fmt: skip
    """Suspend an endless shard for another; returns it, its process and the other one, `urgent`."""
    long = start(bench, tag, **changed)
    process = await begun(bench, tag)
    bench.sandbox.preempt(tag)
    urgent = start(bench, "urgent")
    await begun(bench, "urgent")
    await until(lambda: is_stopped(process))
    return long, process, urgent


async def ended(*tasks: asyncio.Task[CallResult]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_it_lets_another_finish_in_the_only_slot_and_goes_on_afterwards(bench: Bench) -> None:
    long = start(bench, "long")
    process = await begun(bench, "long")
    bench.sandbox.preempt("long")
    # Nobody waits yet.
    await goes_on(process)
    assert (await start(bench, "urgent", QUICK)).output == b"7"
    await goes_on(process)
    assert (bench.sandbox.stats().running, bench.sandbox.stats().suspended) == (1, 0)
    # It gives way again without being told to.
    assert (await start(bench, "urgent", QUICK)).output == b"7"
    await goes_on(process)
    assert not long.done()
    await ended(long)


async def test_while_it_is_suspended_it_occupies_no_slot_and_has_begun(bench: Bench) -> None:
    long, process, urgent = await suspended(bench)
    stats = bench.sandbox.stats()
    assert (stats.running, stats.suspended, stats.children) == (1, 1, 2)
    assert bench.sandbox.begun() == {"long", "urgent"}
    await ended(urgent)
    await until(lambda: not is_stopped(process))
    assert bench.sandbox.stats().restarts == 1, "of the one that was cancelled"
    await ended(long)


async def test_its_wall_time_stands_still_while_it_is_suspended(bench: Bench) -> None:
    now = asyncio.get_running_loop().time
    began = now()
    long, process, first = await suspended(bench, wall_time_s=2.0)
    await ended(first)
    # By the same clock, which is longer than the other one may run.
    assert (await start(bench, "second", wall_time_s=2.5)).code == "wall_time"
    assert not long.done()
    assert process.is_running()
    assert (await long).code == "wall_time"
    assert now() - began > 2.0 + 2.5 - 0.1


async def test_the_time_that_is_told_of_it_is_without_that(bench: Bench) -> None:
    now = asyncio.get_running_loop().time
    began = now()
    long = start(bench, "long", b"0 1000", modules.SPIN)
    process = await begun(bench, "long")
    await goes_on(process)
    bench.sandbox.preempt("long")
    assert (await start(bench, "urgent", wall_time_s=1.5)).code == "wall_time"
    outcome = await long
    assert outcome.output == b"1000"
    assert outcome.cpu_s <= outcome.wall_s < now() - began - 1.5 + 0.1


async def test_of_each_slot_one_is_suspended_at_most(bench: Bench) -> None:
    long, process, urgent = await suspended(bench)
    bench.sandbox.preempt("urgent")
    # So far nobody waits for its slot.
    assert not urgent.done()
    assert (await start(bench, "third", QUICK)).output == b"7"
    with pytest.raises(SandboxError, match="a suspended shard for each slot") as gave_way:
        await urgent
    assert gave_way.value.code == "preempted"
    await goes_on(process)
    await ended(long)


async def test_with_two_slots_no_more_give_way_than_wait(bench_2: Bench) -> None:
    longs = [start(bench_2, "a"), start(bench_2, "b")]
    processes = [await begun(bench_2, tag) for tag in "ab"]
    for tag in "ab":
        bench_2.sandbox.preempt(tag)
    urgent = [start(bench_2, "urgent")]
    await begun(bench_2, "urgent")
    await until(lambda: [is_stopped(each) for each in processes] == [True, False])
    urgent.append(start(bench_2, "urgent too"))
    await begun(bench_2, "urgent too")
    await until(lambda: all(map(is_stopped, processes)))
    assert bench_2.sandbox.stats().children == 4
    await ended(*urgent)
    for process in processes:
        await goes_on(process)
    assert not any(long.done() for long in longs)
    await ended(*longs)


@pytest.mark.parametrize("available_bytes", [127 * MIB, 128 * MIB, None])
async def test_without_memory_for_another_child_it_is_ended_instead(
    new_sandbox: NewSandbox, available_bytes: int | None
) -> None:
    sandbox = await new_sandbox(memory_bytes=128 * MIB, available_memory=lambda: available_bytes)
    bench = Bench(sandbox)
    long = start(bench, "long")
    process = await begun(bench, "long")
    sandbox.preempt("long")
    assert (await start(bench, "urgent", QUICK)).output == b"7"
    if available_bytes == 127 * MIB:
        with pytest.raises(SandboxError, match="only 127 MiB of memory") as gave_way:
            await long
        assert gave_way.value.code == "preempted"
        await until(lambda: not is_alive(process.pid))
    else:
        await goes_on(process)
        await ended(long)


async def test_where_the_system_forbids_to_stop_it_it_is_ended_instead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = start(bench, "long")
    process = await begun(bench, "long")
    real = subprocess.Popen.send_signal

    def forbidden(popen: "subprocess.Popen[bytes]", number: int) -> None:
        if number == signal.SIGSTOP:
            raise PermissionError
        real(popen, number)

    monkeypatch.setattr(subprocess.Popen, "send_signal", forbidden)
    bench.sandbox.preempt("long")
    assert (await start(bench, "urgent", QUICK)).output == b"7"
    with pytest.raises(SandboxError, match="does not allow"):
        await long
    await until(lambda: not is_alive(process.pid))


async def test_cancelling_a_suspended_one_ends_its_child(bench: Bench) -> None:
    long, process, urgent = await suspended(bench)
    await ended(long)
    await until(lambda: not is_alive(process.pid))
    assert bench.sandbox.stats().suspended == 0
    assert not urgent.done()
    await ended(urgent)
    assert (await start(bench, "quick", QUICK)).output == b"7"


async def test_a_suspended_child_that_is_killed_from_outside_fails_its_shard_only(
    bench: Bench,
) -> None:
    long, process, urgent = await suspended(bench)
    process.kill()
    assert (await long).code == "child_died"
    assert not urgent.done()
    await ended(urgent)
    assert (await start(bench, "quick", QUICK)).output == b"7"


async def test_when_the_one_it_gave_way_to_is_no_longer_wanted_it_goes_on(bench: Bench) -> None:
    long = start(bench, "long", scope="a")
    process = await begun(bench, "long")
    bench.sandbox.preempt("long")
    # Its scope has no child, so it waits for the start of one.
    urgent = start(bench, "urgent", scope="b")
    await until(lambda: bench.sandbox.stats().suspended == 1)
    await ended(urgent)
    await goes_on(process)
    await ended(long)


async def test_stop_ends_suspended_children_in_time(new_sandbox: NewSandbox) -> None:
    bench = Bench(await new_sandbox())
    long, _, urgent = await suspended(bench)
    pids = bench.sandbox.stats().pids
    async with asyncio.timeout(2):
        await bench.sandbox.stop()
    assert not any(map(is_alive, pids))
    for task in (long, urgent):
        with pytest.raises(SandboxError, match="stopping"):
            await task


async def test_a_killed_hub_leaves_no_suspended_child(tmp_path: Path) -> None:
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.helpers.suspending", str(tmp_path),
        cwd=Path(__file__).parents[3], stdout=subprocess.PIPE,
    )  # fmt: skip
    assert hub.stdout is not None
    async with asyncio.timeout(60):
        pids = [int(word) for word in (await hub.stdout.readline()).split()]
    try:
        assert len(pids) == 2
        assert is_stopped(psutil.Process(pids[0]))
    finally:
        hub.kill()
        await hub.wait()
    await until(lambda: not any(map(is_alive, pids)))


async def test_those_behind_it_are_run_elsewhere(bench: Bench) -> None:
    await bench.sandbox.warm()
    # Until its child is known to be fast, which then gets shards ahead.
    for _ in range(5):
        await asyncio.gather(*(start(bench, "quick", QUICK) for _ in range(4)))
    wasm = await bench.wasm(modules.MAYBE_ENDLESS)
    call = make_call(wasm, "range", wall_time_s=60.0)
    tasks = [
        asyncio.ensure_future(bench.sandbox.run(call, data, bench.loader(wasm), tag=tag))
        for tag, data in [("long", ENDLESS), *(("quick", QUICK) for _ in range(20))]
    ]
    process = await begun(bench, "long")
    (child,) = bench.sandbox._children
    assert child.queued > 1
    bench.sandbox.preempt("long")
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*tasks[1:])
    assert {outcome.output for outcome in outcomes} == {b"7"}
    await goes_on(process)
    await ended(tasks[0])


async def test_a_shard_begins_when_a_child_comes_to_it_not_when_it_is_given_to_the_child(
    bench: Bench,
) -> None:
    await bench.sandbox.warm()
    for _ in range(5):
        await asyncio.gather(*(start(bench, "quick", QUICK) for _ in range(4)))
    told: list[str] = []
    bench.sandbox.on_begun(told.append)
    wasm = await bench.wasm(modules.MAYBE_ENDLESS)
    call = make_call(wasm, "range", wall_time_s=60.0)
    tasks = [
        asyncio.ensure_future(bench.sandbox.run(call, data, bench.loader(wasm), tag=tag))
        for tag, data in [("long", ENDLESS), *((f"quick {number}", QUICK) for number in range(3))]
    ]
    await begun(bench, "long")
    (child,) = bench.sandbox._children
    assert child.queued > 1
    assert told == ["long"]
    child.kill(Answer("killed", "by the test"))
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks[1:])
    assert told == ["long", "quick 0", "quick 1", "quick 2"]
    await ended(tasks[0])


async def test_it_gives_way_to_those_that_another_one_holds_up(bench_2: Bench) -> None:
    await bench_2.sandbox.warm()
    for _ in range(5):
        await asyncio.gather(*(start(bench_2, "quick", QUICK) for _ in range(4)))
    background, holding = start(bench_2, "background"), start(bench_2, "holding")
    await begun(bench_2, "background")
    await begun(bench_2, "holding")
    bench_2.sandbox.preempt("background")
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*(start(bench_2, "quick", QUICK) for _ in range(20)))
    assert {outcome.output for outcome in outcomes} == {b"7"}
    assert not background.done()
    assert not holding.done()
    await ended(background, holding)


@pytest.mark.parametrize("other", ["b", None])
async def test_the_other_one_may_be_of_another_scope(bench: Bench, other: str | None) -> None:
    long = start(bench, "long", scope="a")
    process = await begun(bench, "long")
    bench.sandbox.preempt("long")
    for _ in range(3):
        assert (await start(bench, "urgent", QUICK, scope=other)).output == b"7"
    await goes_on(process)
    # A child more for the slot.
    assert bench.sandbox.stats().children <= 3
    await ended(long)


async def test_its_child_makes_room_for_nobody_and_is_not_taken_for_idle(bench: Bench) -> None:
    bench.sandbox._child_pool._spare_idle_s = 0.05
    long, process, urgent = await suspended(bench, scope="long")
    await ended(urgent)
    for scope in "abcde":
        assert (await start(bench, "urgent", QUICK, scope=scope)).output == b"7"
    await goes_on(process)
    await until(lambda: bench.sandbox.stats().children == 1)
    assert bench.sandbox.begun() == {"long"}
    await ended(long)


async def test_an_inspection_does_not_wait_for_a_suspended_child(bench: Bench) -> None:
    wasm = await bench.wasm(modules.SUM)
    long, _, urgent = await suspended(bench)
    async with asyncio.timeout(30):
        assert (await bench.sandbox.inspect(wasm)).abis == ("i32-array",)
    await ended(long, urgent)


async def test_one_that_has_not_begun_or_is_unknown_keeps_its_turn(bench: Bench) -> None:
    long = start(bench, "long")
    process = await begun(bench, "long")
    waiting = start(bench, "waiting", QUICK)
    await until(lambda: bench.sandbox.stats().queued == 1)
    for tag in ("waiting", "nobody's"):
        bench.sandbox.preempt(tag)
    await goes_on(process)
    assert bench.sandbox.begun() == {"long"}
    await ended(long)
    assert (await waiting).output == b"7"


async def test_one_that_has_answered_when_it_is_stopped_is_heard(bench: Bench) -> None:
    await start(bench, "quick", QUICK)
    wasm = await bench.wasm(modules.MAYBE_ENDLESS)
    call = make_call(wasm, "range")
    long = asyncio.ensure_future(bench.sandbox.run(call, QUICK, bench.loader(wasm), tag="long"))
    # It runs up to here, and nothing is read from a child before this goes on.
    await asyncio.sleep(0)
    assert bench.sandbox.begun() == {"long"}
    (child,) = bench.sandbox._children
    assert child._transport is not None
    # The answer is there before the loop comes to read it.
    assert select.select([child._transport.get_extra_info("socket").fileno()], [], [], 10)[0]
    urgent = asyncio.ensure_future(bench.sandbox.run(call, QUICK, bench.loader(wasm)))
    bench.sandbox.preempt("long")
    assert child.background
    assert child.suspend()
    for task in (long, urgent):
        assert (await task).output == b"7"
    assert not is_stopped(psutil.Process(child.pid))


async def test_whatever_gives_way_each_shard_gets_its_answer(bench_2: Bench) -> None:
    chance = random.Random(7)
    sandbox = bench_2.sandbox
    answered = 0

    async def insist(number: int) -> None:
        """Run a shard until it did not have to be ended."""
        nonlocal answered
        data = b"0 %d" % chance.randrange(1, 20)
        while True:
            try:
                scope = chance.choice("ab")
                outcome = await start(bench_2, str(number), data, modules.SPIN, scope=scope)
            except SandboxError as error:
                if error.code != "preempted":
                    raise
            else:
                assert outcome.output == data.removeprefix(b"0 ")
                answered += 1
                return

    shards = [asyncio.ensure_future(insist(number)) for number in range(150)]
    while answered < len(shards):
        running = sorted(sandbox.begun())
        if running and chance.random() < 0.5:
            sandbox.preempt(chance.choice(running))
        assert sandbox.stats().running <= 2
        assert sandbox.stats().suspended <= 2
        assert not any(shard.done() and shard.exception() for shard in shards)
        await asyncio.sleep(0.002)
    await asyncio.gather(*shards)
    assert sandbox.stats().suspended == 0
    assert not any(is_stopped(psutil.Process(pid)) for pid in sandbox.stats().pids)
