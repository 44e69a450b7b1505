"""A command that reads frames: kept from shard to shard, and what ends it."""

import asyncio
import dataclasses
import struct
from typing import Any

import pytest

from swarm_hub.components.sandbox import Limits, Reuse, SandboxService
from swarm_hub.components.sandbox.call import CallResult
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.shard import assignment_id, seed_of
from tests.helpers.frames import COUNTS
from tests.helpers.sandboxes import MIB, Bench, make_call

FRAMES = "wasi-frames"


async def one(bench: Bench, shard: bytes, **changed: Any) -> CallResult:
    return await bench.run(COUNTS, FRAMES, shard, **changed)


async def count(bench: Bench, **changed: Any) -> int:
    """Return the number of the shard in its instance."""
    result = await one(bench, b"n", **changed)
    assert result.code == "ok", result.text
    return int.from_bytes(result.output, "little")


async def test_an_instance_is_kept_for_the_shards_of_a_call(bench: Bench) -> None:
    assert [await count(bench) for _ in range(3)] == [1, 2, 3]
    assert await count(bench, args=("another",)) == 1
    assert await count(bench) == 1
    assert len(bench.sandbox.stats().pids) == 1


async def test_another_module_ends_the_instance(bench: Bench) -> None:
    assert await count(bench) == 1
    assert (await bench.run('(module (func (export "_start")))', "wasi")).code == "ok"
    assert await count(bench) == 1


@pytest.mark.parametrize("changed", [{"deterministic": True}, {"fuel": 10**6}])
async def test_an_instance_is_fresh_where_results_are_compared_or_fuel_is_counted(
    bench: Bench, changed: dict[str, Any]
) -> None:
    assert [await count(bench, **changed) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("shard", "code", "says"),
    [
        (b"x", "exit: 7", "code 7"),
        (b"q", "no_answer", "before it had answered"),
        (b"u", "trap: unreachable at one", "gave up"),
        (b"o", "output", "16777216 bytes, more than the limit"),
    ],
)
async def test_a_shard_that_ends_its_command_fails_alone(
    bench: Bench, shard: bytes, code: str, says: str
) -> None:
    assert await count(bench) == 1
    failed, *behind = await asyncio.gather(one(bench, shard), *(count(bench) for _ in range(3)))
    assert failed.code == code
    assert says in failed.text
    assert behind == [1, 2, 3]
    assert bench.sandbox.stats().restarts == 0


async def test_a_command_that_ends_after_its_answer_fails_no_shard_behind(bench: Bench) -> None:
    assert await count(bench) == 1
    twice, *behind = await asyncio.gather(one(bench, b"t"), *(count(bench) for _ in range(3)))
    assert (twice.code, twice.output) == ("ok", b"")
    assert behind == [1, 2, 3]


async def test_a_shard_may_fail_without_ending_its_command(bench: Bench) -> None:
    failed = await one(bench, b"b")
    assert (failed.code, failed.text) == ("exit: 3", "said on stdout")
    assert await count(bench) == 2
    ok = await one(bench, b"n")
    assert (ok.code, ok.text) == ("ok", "")


async def test_shards_behind_one_that_takes_too_long_return_without_a_failure(
    bench: Bench,
) -> None:
    assert await count(bench, wall_time_s=1.0) == 1
    late, *behind = await asyncio.gather(
        one(bench, b"l", wall_time_s=1.0), *(count(bench, wall_time_s=1.0) for _ in range(3))
    )
    assert late.code == "wall_time"
    assert behind == [1, 2, 3]


async def test_an_instance_that_has_grown_makes_way_for_a_fresh_one(bench: Bench) -> None:
    assert (await one(bench, b"g")).output == struct.pack("<I", 1)
    assert await count(bench) == 1


async def test_large_shards_and_answers_pass_one_after_the_other(bench: Bench) -> None:
    for size in (MIB, 3 * MIB, 70_000, 2 * MIB):
        shard = b"e" + bytes(size)
        result = await one(bench, shard, output_bytes=4 * MIB)
        assert result.output == shard
        assert result.peak_memory_bytes == 4 * MIB


async def test_addresses_outside_the_memory_are_refused(bench: Bench) -> None:
    fault, inval = 21, 28
    assert (await one(bench, b"p")).output == struct.pack("<HH", fault, inval)
    assert await count(bench) == 2


async def test_a_shard_has_the_same_seed_at_each_attempt(bench: Bench) -> None:
    ids = [assignment_id("job", index, attempt) for index in (0, 1) for attempt in (1, 2)]
    wasm = await bench.wasm(COUNTS)
    call = make_call(wasm, FRAMES)
    seeds = [
        (await bench.sandbox.run(call, b"s", bench.loader(wasm), seed=seed_of(each))).output
        for each in ids
    ]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


async def test_a_command_of_another_abi_has_no_such_socket(bench: Bench) -> None:
    assert (await bench.run(COUNTS, "wasi", b"n")).code == "exit: 99"


@pytest.mark.parametrize("reuse", [Reuse.OWNER, Reuse.JOB])
def test_two_jobs_never_share_an_instance(bench: Bench, reuse: Reuse) -> None:
    service = SandboxService(bench.sandbox, Limits(MIB, 1.0, MIB), MIB, reuse)
    asked = ModuleCall("0" * 64, FRAMES, "_start", owner="somebody")
    kept = [service.bounded(asked, "gateway", job).scope for job in ("a", "b")]
    assert kept[0] != kept[1]
    plain = dataclasses.replace(asked, abi="wasi")
    others = {service.bounded(plain, "gateway", job).scope for job in ("a", "b")}
    assert len(others) == (1 if reuse is Reuse.OWNER else 2)
