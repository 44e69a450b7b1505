"""Most answers of short shards wake nobody, and yet each shard's fate is its own."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import pytest

from swarm_hub.components.sandbox.call import CallResult
from swarm_hub.components.sandbox.child.wire import PREFIX, QUIET_BYTES_MAX, READ_BYTES
from swarm_hub.components.sandbox.protocol import ChildLink
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, make_call, until

QUICK, ENDLESS = b"0 7", b"1 0"
_WITHIN_S = 20.0


async def warm_child(bench: Bench) -> ChildLink:
    """Run short shards, so that the child is known to be fast."""
    for _ in range(5):
        await bench.run(modules.MAYBE_ENDLESS, "range", QUICK)
    (child,) = bench.sandbox._children
    # However busy the machine is.
    child.mean_s = 0.0001
    return child


async def send(
    bench: Bench, child: ChildLink, bodies: Sequence[bytes], *, wall_time_s: float = 60.0
) -> list[asyncio.Task[CallResult]]:
    """Put shards into the child, all of them before it begins the first; tags are their places."""
    wasm = await bench.wasm(modules.MAYBE_ENDLESS)
    call = make_call(wasm, "range", wall_time_s=wall_time_s)
    assert child.freeze()
    tasks = [
        asyncio.ensure_future(bench.sandbox.run(call, body, bench.loader(wasm), tag=str(place)))
        for place, body in enumerate(bodies)
    ]
    await until(lambda: child.queued == len(bodies) and not child._outbox)
    child.thaw()
    return tasks


def wait_for_answers(child: ChildLink, number: int) -> None:
    """Wait, with the loop held up, until so many answers lie there unread."""
    deadline_s = time.monotonic() + _WITHIN_S
    ends = (child.launched.quiet, child.launched.link)
    # Each is a little longer than its prefix, and far shorter than two.
    for _ in iter(lambda: sum(map(unread_bytes, ends)) >= number * PREFIX.size, True):
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def unread_bytes(end: socket.socket) -> int:
    try:
        return len(end.recv(65_536, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


async def test_short_shards_wake_the_hub_less_than_once_each(bench: Bench) -> None:
    child = await warm_child(bench)
    deadline_s = time.monotonic() + _WITHIN_S
    wakes = shards = 0
    # On a busy machine the shards may be too slow to be kept quiet about.
    while wakes >= shards:
        assert time.monotonic() < deadline_s
        with patch.object(
            ChildLink, "buffer_updated", autospec=True, side_effect=ChildLink.buffer_updated
        ) as read:
            tasks = await send(bench, child, [QUICK] * 8)
            assert {(await task).output for task in tasks} == {b"7"}
        wakes, shards = read.call_count, len(tasks)
    assert bench.sandbox.stats().restarts == 0


async def test_the_child_s_death_costs_only_the_shard_it_was_on(bench: Bench) -> None:
    child = await warm_child(bench)
    bodies = [QUICK, QUICK, ENDLESS, QUICK, QUICK]
    tasks = await send(bench, child, bodies)
    wait_for_answers(child, 2)
    # The hub has read neither of them when the child ends.
    os.kill(child.pid, signal.SIGKILL)
    codes = [(await task).code for task in tasks]
    assert codes == ["ok", "ok", "child_died", "ok", "ok"]
    assert bench.sandbox.stats().restarts == 1


async def test_what_was_answered_quietly_is_not_taken_for_what_waits(bench: Bench) -> None:
    child = await warm_child(bench)
    deadline_s = time.monotonic() + _WITHIN_S
    begun: set[str] = set()
    # On a busy machine the shards may be too slow to be kept quiet about.
    while len(begun) < 2:
        assert time.monotonic() < deadline_s
        tasks = await send(bench, child, [QUICK] * 4)
        wait_for_answers(child, 2)
        # Nobody who waits for them has had a turn to hear of it.
        begun = bench.sandbox.begun()
        assert {(await task).output for task in tasks} == {b"7"}
    assert {"0", "1"} <= begun
    assert bench.sandbox.begun() == set()


async def test_the_hub_learns_which_shard_runs_behind_quiet_answers(bench: Bench) -> None:
    child = await warm_child(bench)
    begun: list[str] = []
    bench.sandbox.on_begun(begun.append)
    tasks = await send(bench, child, [QUICK, QUICK, QUICK, ENDLESS, QUICK])
    await until(lambda: bench.sandbox.begun() == {"3"})
    assert [(await task).output for task in tasks[:3]] == [b"7"] * 3
    # Only what the child was on, each once and in order.
    assert begun == ["0", "1", "2", "3"]
    tasks[3].cancel()
    assert (await tasks[4]).output == b"7"
    assert bench.sandbox.stats().restarts == 1


async def test_the_wall_time_is_that_of_the_shard_behind_quiet_answers(bench: Bench) -> None:
    child = await warm_child(bench)
    tasks = await send(bench, child, [QUICK, QUICK, ENDLESS, QUICK], wall_time_s=0.5)
    outcomes = [await task for task in tasks]
    assert [outcome.code for outcome in outcomes] == ["ok", "ok", "wall_time", "ok"]


async def test_a_shard_that_is_cancelled_does_not_take_answers_along(bench: Bench) -> None:
    child = await warm_child(bench)
    tasks = await send(bench, child, [QUICK, QUICK, ENDLESS])
    await until(lambda: bench.sandbox.begun() == {"2"})
    tasks[2].cancel()
    assert [(await task).output for task in tasks[:2]] == [b"7", b"7"]
    with pytest.raises(asyncio.CancelledError):
        await tasks[2]


async def test_a_quiet_answer_out_of_bounds_ends_the_child(bench: Bench) -> None:
    child = await warm_child(bench)
    tasks = await send(bench, child, [ENDLESS, QUICK])
    await until(lambda: bench.sandbox.begun() == {"0"})
    with taken_over(child) as quiet:
        number = child._sent[0].number
        quiet.send(PREFIX.pack(2, QUIET_BYTES_MAX + 1, number, 0.0, 0.0, -1, -1))
        child.catch_up()
        outcome = await tasks[0]
    assert outcome.code == "child_died"
    assert "broke the protocol" in outcome.text
    assert (await tasks[1]).output == b"7"


async def test_quiet_answers_to_nothing_count_for_nothing_and_fill_nothing(bench: Bench) -> None:
    child = await warm_child(bench)
    tasks = await send(bench, child, [ENDLESS, QUICK])
    await until(lambda: bench.sandbox.begun() == {"0"})
    with taken_over(child) as quiet:
        for _ in range(300):
            with contextlib.suppress(BlockingIOError):
                quiet.send(PREFIX.pack(2, 0, 2**31, 0.0, 0.0, -1, -1) * 100)
            child.catch_up()
        assert child._quiet_decoder.pending_bytes <= READ_BYTES
    assert bench.sandbox.begun() == {"0"}
    tasks[0].cancel()
    assert (await tasks[1]).output == b"7"


@contextlib.contextmanager
def taken_over(child: ChildLink) -> Iterator[socket.socket]:
    """Speak quietly in the child's stead."""
    ours, theirs = socket.socketpair()
    with child.launched.quiet, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        child.launched = dataclasses.replace(child.launched, quiet=ours)
        yield theirs
