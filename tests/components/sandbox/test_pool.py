"""Shards share a few children: in order, in parallel, taken back, and safe from each other."""

import asyncio
import os
import signal
import struct
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from swarm_hub.components.sandbox import launch as launching
from swarm_hub.components.sandbox.call import CallResult, SandboxError
from swarm_hub.components.sandbox.child.wire import PREFIX
from swarm_hub.components.sandbox.pool import _SPARES_MAX, Sandbox
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, is_alive, make_call, until

NewSandbox = Callable[..., Awaitable[Sandbox]]


def one(number: int) -> bytes:
    return struct.pack("<i", number)


async def make_fast(bench: Bench) -> None:
    """Run short shards until every child is known to be fast."""
    await bench.sandbox.warm()
    for _ in range(5):
        await asyncio.gather(*(bench.run(modules.MAYBE_ENDLESS, "range", b"0 7") for _ in range(4)))


def endless(bench: Bench, **changed: Any) -> asyncio.Task[CallResult]:
    return asyncio.ensure_future(bench.run(modules.MAYBE_ENDLESS, "range", b"1 0", **changed))


async def test_no_child_is_started_before_it_is_needed(new_sandbox: NewSandbox) -> None:
    sandbox = await new_sandbox(slots=3)
    assert sandbox.stats().children == 0
    await Bench(sandbox).run(modules.SUM, "i32-array", one(1))
    assert 1 <= sandbox.stats().children <= 3


async def test_warm_starts_a_child_for_every_slot(new_sandbox: NewSandbox) -> None:
    sandbox = await new_sandbox(slots=2)
    await sandbox.warm()
    assert sandbox.stats().children == 2
    assert all(is_alive(pid) for pid in sandbox.stats().pids)


async def test_many_shards_at_once_all_get_their_own_answer(bench_2: Bench) -> None:
    outcomes = await asyncio.gather(
        *(bench_2.run(modules.SUM, "i32-array", one(number)) for number in range(600))
    )
    assert [int(outcome.output) for outcome in outcomes] == list(range(600))
    assert bench_2.sandbox.stats().children == 2
    assert bench_2.sandbox.stats().restarts == 0


async def test_more_modules_than_a_child_keeps_are_loaded_again(bench: Bench) -> None:
    texts = [modules.range_module(f"(i64.const {number})") for number in range(20)]
    for _ in range(3):
        outputs = [(await bench.run(text, "range", b"0 1")).output for text in texts]
        assert outputs == [b"%d" % number for number in range(20)]
    # All but the first were first compiled by a child that had run something, for it alone.
    assert bench.sandbox.stats().compiled == 39
    assert bench.sandbox.stats().loaded == 16


async def test_a_module_the_child_forgot_is_loaded_again(bench: Bench) -> None:
    await bench.run(modules.SUM, "i32-array", one(1))
    (child,) = bench.sandbox._children
    (key,) = child.loaded
    for number in range(16):
        await bench.run(modules.range_module(f"(i64.const {number})"), "range", b"0 1")
    assert not child.has(key)
    # The hub's mirror of what the child keeps is wrong.
    child.note_loaded(key)
    assert (await bench.run(modules.SUM, "i32-array", one(5))).output == b"5"


async def test_a_module_is_compiled_once_for_all_slots(bench_2: Bench) -> None:
    await bench_2.sandbox.warm()
    await asyncio.gather(*(bench_2.run(modules.SPIN, "range", b"0 9") for _ in range(8)))
    assert bench_2.sandbox.stats().compiled == 1
    assert bench_2.loads == 1
    assert bench_2.sandbox.stats().loaded == 2


async def test_a_restarted_sandbox_takes_the_module_from_its_cache(
    new_sandbox: NewSandbox,
) -> None:
    first = Bench(await new_sandbox())
    wasm = await first.wasm(modules.SUM)
    assert (await first.run(wasm, "i32-array", one(3))).output == b"3"
    await first.sandbox.stop()
    second = Bench(await new_sandbox())
    assert (await second.run(wasm, "i32-array", one(4))).output == b"4"
    assert second.loads == 0
    assert second.sandbox.stats().compiled == 0


async def test_a_long_shard_does_not_delay_others_while_a_slot_is_free(bench_2: Bench) -> None:
    await make_fast(bench_2)
    # Fast children get shards ahead; the endless one lands in front of some of them.
    slow = endless(bench_2)
    quick = [
        asyncio.ensure_future(bench_2.run(modules.MAYBE_ENDLESS, "range", b"0 7"))
        for _ in range(30)
    ]
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*quick)
    assert {outcome.output for outcome in outcomes} == {b"7"}
    assert not slow.done()
    assert bench_2.sandbox.stats().restarts == 0
    slow.cancel()
    await asyncio.wait([slow])


async def test_a_long_shard_makes_a_slot_start_that_had_no_child_yet(bench_2: Bench) -> None:
    for _ in range(5):
        await bench_2.run(modules.MAYBE_ENDLESS, "range", b"0 7")
    assert bench_2.sandbox.stats().children == 1
    slow = endless(bench_2)
    quick = [
        asyncio.ensure_future(bench_2.run(modules.MAYBE_ENDLESS, "range", b"0 7")) for _ in range(3)
    ]
    async with asyncio.timeout(5):
        assert {outcome.output for outcome in await asyncio.gather(*quick)} == {b"7"}
    slow.cancel()
    await asyncio.wait([slow])


async def test_shards_behind_one_that_is_killed_run_again_elsewhere(bench: Bench) -> None:
    await make_fast(bench)
    slow = endless(bench, wall_time_s=0.3)
    quick = [
        asyncio.ensure_future(bench.run(modules.MAYBE_ENDLESS, "range", b"0 7")) for _ in range(12)
    ]
    assert (await slow).code == "wall_time"
    assert {(await task).output for task in quick} == {b"7"}
    assert bench.sandbox.stats().restarts == 1


async def test_the_deadline_of_a_queued_shard_starts_when_its_predecessor_answered(
    bench: Bench,
) -> None:
    await make_fast(bench)
    # Each takes a good part of its limit; together they take far more.
    once = await bench.run(modules.SPIN, "range", b"0 100")
    limit_s = max(once.wall_s * 3, 0.2)
    outcomes = await asyncio.gather(
        *(bench.run(modules.SPIN, "range", b"0 100", wall_time_s=limit_s) for _ in range(6))
    )
    assert {outcome.code for outcome in outcomes} == {"ok"}


async def test_cancelling_a_running_shard_kills_its_child(bench: Bench) -> None:
    # Once the module is loaded, all that a child has to do is the shard.
    await make_fast(bench)
    running = endless(bench)

    def busy() -> list[int]:
        return [child.pid for child in bench.sandbox._children if child.queued]

    await until(lambda: len(busy()) == 1)
    (pid,) = busy()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not is_alive(pid))
    assert (await bench.run(modules.SUM, "i32-array", one(9))).output == b"9"


async def test_cancelling_a_queued_shard_harms_nobody(bench: Bench) -> None:
    await make_fast(bench)
    tasks = [
        asyncio.ensure_future(bench.run(modules.MAYBE_ENDLESS, "range", b"0 %d" % number))
        for number in range(40)
    ]
    await asyncio.sleep(0)
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.wait(tasks)
    kept = [task.result().output for task in tasks[0::2]]
    assert kept == [b"%d" % number for number in range(0, 40, 2)]
    assert all(task.cancelled() for task in tasks[1::2])


async def test_a_child_that_is_killed_from_outside_fails_one_shard_only(bench: Bench) -> None:
    await make_fast(bench)
    slow = endless(bench)
    await until(lambda: bench.sandbox.stats().running == 1)
    child = psutil.Process(bench.sandbox.stats().pids[0])
    before = child.cpu_times().user
    # It does nothing but this shard.
    await until(lambda: child.cpu_times().user > before)
    child.kill()
    outcome = await slow
    assert outcome.code == "child_died"
    assert "SIGKILL" in outcome.text
    assert (await bench.run(modules.SUM, "i32-array", one(2))).output == b"2"


async def test_an_idle_child_that_dies_is_replaced(bench: Bench) -> None:
    await bench.sandbox.warm()
    (pid,) = bench.sandbox.stats().pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: bench.sandbox.stats().pids not in ((), (pid,)))
    assert (await bench.run(modules.SUM, "i32-array", one(2))).output == b"2"


async def test_an_error_while_reading_the_module_is_the_callers(bench: Bench) -> None:
    wasm = await bench.wasm(modules.SUM)

    async def gone() -> bytes:
        raise FileNotFoundError("the blob is gone")

    with pytest.raises(FileNotFoundError):
        await bench.sandbox.run(make_call(wasm, "i32-array"), one(1), gone)
    assert (await bench.run(wasm, "i32-array", one(1))).output == b"1"


async def test_stop_ends_everything_in_time(new_sandbox: NewSandbox) -> None:
    bench = Bench(await new_sandbox(slots=2))
    await bench.sandbox.warm()
    pids = bench.sandbox.stats().pids
    waiting = [endless(bench) for _ in range(4)]
    await until(lambda: bench.sandbox.stats().running == 2)
    async with asyncio.timeout(2):
        await bench.sandbox.stop()
    assert not any(is_alive(pid) for pid in pids)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [result.code for result in results if isinstance(result, SandboxError)] == [
        "stopped"
    ] * 4
    with pytest.raises(SandboxError, match="not running"):
        await bench.run(b"\0asm\1\0\0\0", "range")


async def test_an_inspection_does_not_wait_for_a_long_shard(bench: Bench) -> None:
    wasm = await bench.wasm(modules.SUM)
    await make_fast(bench)
    slow = endless(bench)
    await until(lambda: bench.sandbox.stats().running == 1)
    async with asyncio.timeout(10):
        report = await bench.sandbox.inspect(wasm)
    assert report.abis == ("i32-array",)
    assert not slow.done()
    # A busy machine may lose its patience twice.
    assert 2 <= bench.sandbox.stats().children <= 1 + _SPARES_MAX
    slow.cancel()
    await asyncio.wait([slow])


async def test_what_was_stopped_has_left_nothing_behind(new_sandbox: NewSandbox) -> None:
    sandbox = await new_sandbox()
    await Bench(sandbox).run(modules.SUM, "i32-array", one(1))
    (child,) = sandbox._children
    room = Path(child.launched.room)
    # So many that removing them takes a while.
    for number in range(5_000):
        (room / str(number)).touch()
    await sandbox.stop()
    assert room.name not in os.listdir(room.parent)


async def test_a_child_started_for_an_inspection_is_stopped_when_it_rests(
    new_sandbox: NewSandbox,
) -> None:
    sandbox = await new_sandbox()
    sandbox._child_pool._spare_idle_s = 0.05
    await Bench(sandbox).wasm(modules.SUM)
    assert sandbox.stats().children == 1
    await until(lambda: sandbox.stats().children == 0)
    assert sandbox.stats().restarts == 0


async def test_a_child_that_breaks_the_protocol_is_killed(bench: Bench) -> None:
    await make_fast(bench)
    slow = endless(bench)
    await until(lambda: bench.sandbox.stats().running == 1)
    (child,) = bench.sandbox._children
    child._decoder.space()[: PREFIX.size] = PREFIX.pack(2**31, 0, 1, 0.0, 0.0, -1, -1)
    child.buffer_updated(PREFIX.size)
    outcome = await slow
    assert outcome.code == "child_died"
    assert "broke the protocol" in outcome.text


async def test_a_child_that_speaks_without_being_asked_is_killed(bench: Bench) -> None:
    await bench.sandbox.warm()
    (child,) = bench.sandbox._children
    child._decoder.space()[: PREFIX.size] = PREFIX.pack(2, 0, 1, 0.0, 0.0, -1, -1)
    child.buffer_updated(PREFIX.size)
    await until(lambda: not is_alive(child.pid))
    assert (await bench.run(modules.SUM, "i32-array", one(1))).output == b"1"


async def test_a_transport_needs_no_class_of_asyncio(bench: Bench) -> None:
    await bench.sandbox.warm()
    (child,) = bench.sandbox._children
    # As uvloop's: it has the methods only.
    child.connection_made(cast(asyncio.BaseTransport, _Transport(child._transport)))
    assert (await bench.run(modules.SUM, "i32-array", one(1))).output == b"1"


class _Transport:
    def __init__(self, real: asyncio.Transport | None) -> None:
        assert real is not None
        self.write, self.abort = real.write, real.abort


async def test_a_child_that_can_not_start_is_reported(
    new_sandbox: NewSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_BOOT", "raise SystemExit('no wasmtime here')")
    sandbox = await new_sandbox()
    wasm = b"\0asm\1\0\0\0"
    with pytest.raises(SandboxError, match="no wasmtime here") as refused:
        await Bench(sandbox).run(wasm, "range", b"0 1")
    assert refused.value.code == "no_child"


async def test_a_sandbox_whose_children_start_again_recovers(
    new_sandbox: NewSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await new_sandbox()
    bench = Bench(sandbox)
    wasm = await bench.wasm(modules.SUM)
    for child in tuple(sandbox._children):
        os.kill(child.pid, signal.SIGKILL)
    await until(lambda: sandbox.stats().children == 0 or sandbox.stats().restarts > 0)
    real = subprocess.Popen
    calls = 0

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise BlockingIOError("no processes left")
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", failing)
    assert (await bench.run(wasm, "i32-array", one(6))).output == b"6"


async def test_stopping_children_that_still_start_is_no_failure_of_theirs(
    new_sandbox: NewSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    for turns in range(6):
        sandbox = await new_sandbox(slots=2)
        starting = asyncio.ensure_future(sandbox.warm())
        for _ in range(turns):
            await asyncio.sleep(0)
        await sandbox.stop()
        await starting
    # Neither a child that "does not start" nor a callback on a closed socket.
    assert [record.getMessage() for record in caplog.records] == []


async def test_slots_can_become_fewer_and_more_while_shards_run(new_sandbox: NewSandbox) -> None:
    sandbox = await new_sandbox(slots=3)
    bench = Bench(sandbox)
    running = [endless(bench) for _ in range(3)]
    await until(lambda: sandbox.stats().running == 3)
    sandbox.resize(1)
    running += [endless(bench) for _ in range(3)]
    await until(lambda: sandbox.stats().queued == 3)
    # What runs is finished; nothing begins in its place before there is one slot again.
    for task in running[:2]:
        task.cancel()
    await until(lambda: sandbox.stats().running == 1)
    assert sandbox.stats().queued == 3
    running[2].cancel()
    await until(lambda: sandbox.stats().queued == 2)
    assert sandbox.stats().running == 1
    sandbox.resize(3)
    await until(lambda: sandbox.stats().running == 3)
    assert sandbox.stats().queued == 0
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_with_fewer_slots_fast_shards_all_get_their_answer(bench_2: Bench) -> None:
    await make_fast(bench_2)
    asked = [
        asyncio.ensure_future(bench_2.run(modules.SUM, "i32-array", one(number)))
        for number in range(300)
    ]
    await until(lambda: any(task.done() for task in asked))
    bench_2.sandbox.resize(1)
    outcomes = await asyncio.gather(*asked)
    assert [int(outcome.output) for outcome in outcomes] == list(range(300))
    assert bench_2.sandbox.stats().running == 0
