"""Whoever takes a child over gets at nobody else: not at other scopes' shards, not at the cache."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swarm_hub.components.sandbox import pool
from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, make_call, until

NewSandbox = Callable[..., Awaitable[Sandbox]]

# Code of the child's own stands for what a defect in the compiler would let a module do. It leaves
# a trace in its process, says what it finds, and has every module compiled to its own from then on.
TAKES_OVER = """
import sys

from . import engine


class _TakesOver:
    name = "takes-over"
    rank = None
    wants = "anything"
    uses_files = False

    def entries(self, shape):
        return ("anything",)

    def run(self, session, body):
        found = getattr(sys, "trace", b"nothing")
        sys.trace = body
        honest = engine.Library.compile
        own = b"no module" if body == b"liar" else bytes.fromhex("0061736d01000000")
        engine.Library.compile = lambda library, wasm, variant: honest(library, own, variant)
        return found


ABI = _TakesOver()
"""
NOTHING = b"\0asm\1\0\0\0"


@pytest.fixture
async def new_bench(new_sandbox: NewSandbox, tmp_path: Path) -> Callable[..., Awaitable[Bench]]:
    """Make sandboxes with an abi that takes its child over."""
    path = tmp_path / "abi_takes_over.py"
    path.write_text(TAKES_OVER)

    async def make(**options: int) -> Bench:
        sandbox = await new_sandbox(**options)
        await sandbox.add_abi(path)
        return Bench(sandbox)

    return make


NewBench = Callable[..., Awaitable[Bench]]


async def take_over(bench: Bench, name: bytes, scope: str | None) -> bytes:
    outcome = await bench.run(NOTHING, "takes-over", name, scope=scope, entry="anything")
    assert outcome.code == "ok", outcome
    return outcome.output


async def test_a_scope_finds_its_own_child_again_and_nobody_elses(new_bench: NewBench) -> None:
    bench = await new_bench()
    assert await take_over(bench, b"alice", "a") == b"nothing"
    assert await take_over(bench, b"bob", "b") == b"nothing"
    assert await take_over(bench, b"alice", "a") == b"alice"
    assert await take_over(bench, b"bob", "b") == b"bob"
    assert bench.sandbox.stats().children == 2


async def test_the_child_that_rested_longest_makes_room_for_a_third_scope(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    for name in (b"alice", b"bob", b"carol"):
        assert await take_over(bench, name, name.decode()) == b"nothing"
    assert await take_over(bench, b"carol", "carol") == b"carol"
    assert await take_over(bench, b"bob", "bob") == b"bob"
    assert await take_over(bench, b"alice", "alice") == b"nothing"
    assert bench.sandbox.stats().children == 2
    assert bench.sandbox.stats().restarts == 0


async def test_the_children_of_a_scope_that_rests_are_stopped_again(new_bench: NewBench) -> None:
    bench = await new_bench()
    children = bench.sandbox._child_pool
    await take_over(bench, b"alice", "a")
    await take_over(bench, b"bob", "b")
    assert bench.sandbox.stats().children == 2
    # As if their rest began with a shorter time, which a busy machine may not take away before.
    children._spare_idle_s = 0.3
    children._watched.clear()
    children.resting(min(children.children, key=lambda child: child.idle_since_s))
    await until(lambda: bench.sandbox.stats().children == 1)
    assert await take_over(bench, b"bob", "b") == b"bob"


async def test_without_a_scope_each_shard_has_a_child_that_ran_nothing(new_bench: NewBench) -> None:
    bench = await new_bench(slots=2)
    found = await asyncio.gather(*(take_over(bench, b"anybody", None) for _ in range(5)))
    assert found == [b"nothing"] * 5
    # What ran is gone at once, not when its place is needed.
    await until(lambda: all(not child.ran for child in bench.sandbox._children))
    assert bench.sandbox.stats().children == 2


async def test_shards_of_another_scope_never_share_a_child_under_load(new_bench: NewBench) -> None:
    bench = await new_bench(slots=2)
    names = [b"alice", b"bob"] * 100
    found = await asyncio.gather(*(take_over(bench, name, name.decode()) for name in names))
    for name in (b"alice", b"bob"):
        heard = {found[number] for number in range(200) if names[number] == name}
        assert heard <= {b"nothing", name}
    assert bench.sandbox.stats().children <= 4


async def test_a_long_shard_of_one_scope_does_not_delay_another_while_a_slot_is_free(
    bench_2: Bench,
) -> None:
    slow = asyncio.ensure_future(
        bench_2.run(modules.MAYBE_ENDLESS, "range", b"1 0", scope="a", wall_time_s=60)
    )
    await until(lambda: bench_2.sandbox.stats().running == 1)
    async with asyncio.timeout(30):
        outcome = await bench_2.run(modules.MAYBE_ENDLESS, "range", b"0 7", scope="b")
    assert outcome.output == b"7"
    slow.cancel()
    await asyncio.wait([slow])


async def test_a_child_whose_shard_never_began_is_anybodys(new_bench: NewBench) -> None:
    bench = await new_bench()

    async def gone() -> bytes:
        raise FileNotFoundError("the blob is gone")

    for scope in ("a", "b", None):
        call = make_call(NOTHING, "takes-over", scope=scope, entry="anything")
        with pytest.raises(FileNotFoundError):
            await bench.sandbox.run(call, b"", gone)
    assert await take_over(bench, b"carol", "c") == b"nothing"
    assert bench.sandbox.stats().children == 1


FIVE = struct.pack("<i", 5)


def padded(wasm: bytes, size_bytes: int) -> bytes:
    """Return a module with a custom section of that size, which says nothing."""
    low, middle, high = size_bytes & 127 | 128, size_bytes >> 7 & 127 | 128, size_bytes >> 14
    return wasm + bytes([0, low, middle, high, 1]) + b"x" + bytes(size_bytes - 2)


async def test_what_a_child_compiled_that_ran_something_is_nobody_elses(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    wasm = await bench.wasm(modules.SUM)
    assert await take_over(bench, b"alice", "a") == b"nothing"
    # It has what it wanted, and harms its own owner alone.
    assert (await bench.run(wasm, "i32-array", FIVE, scope="a")).code == "bad_export"
    assert (await bench.run(wasm, "i32-array", FIVE, scope="b")).output == b"5"
    await bench.sandbox.stop()
    again = await new_bench()
    assert (await again.run(wasm, "i32-array", FIVE, scope="c")).output == b"5"
    assert (again.loads, again.sandbox.stats().compiled) == (0, 0)


async def test_what_a_child_says_of_a_module_that_ran_something_is_not_remembered(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    wasm = await bench.wasm(modules.SUM)
    await take_over(bench, b"liar", "a")
    assert (await bench.run(wasm, "i32-array", FIVE, scope="a")).code == "bad_module"
    assert (await bench.run(wasm, "i32-array", FIVE, scope="b")).output == b"5"


@pytest.mark.parametrize("padding", [0, 100_000])
async def test_what_is_wanted_twice_or_is_large_is_compiled_by_a_child_that_ran_nothing(
    new_bench: NewBench, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second one is started when the first takes long to.
    monkeypatch.setattr(pool, "_ASIDE_PATIENCE_S", 60.0)
    bench = await new_bench()
    wasm = await bench.wasm(modules.SUM)
    if padding:
        wasm = padded(wasm, padding)
    await take_over(bench, b"alice", "a")
    if not padding:
        # The child forgets it, or another one of the same owner wants it.
        await bench.run(wasm, "i32-array", FIVE, scope="a")
        (child,) = (child for child in bench.sandbox._children if child.ran)
        child.loaded.clear()
    outcome = await bench.run(wasm, "i32-array", FIVE, scope="a")
    assert (outcome.code, outcome.output) == ("ok", b"5")
    assert sum(not child.ran for child in bench.sandbox._children) == 1


async def test_a_child_that_ran_nothing_starts_while_a_large_module_is_on_its_way(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    wasm = padded(await bench.wasm(modules.SUM), 100_000)
    await take_over(bench, b"alice", "a")
    (used,) = bench.sandbox._children

    async def load() -> bytes:
        await until(lambda: any(child.idle for child in bench.sandbox._children if not child.ran))
        return wasm

    call = make_call(wasm, "i32-array", scope="a")
    outcome = await bench.sandbox.run(call, FIVE, load, module_bytes=len(wasm))
    assert outcome.output == b"5"
    (clean,) = (child for child in bench.sandbox._children if child is not used)
    # It compiled and ran nothing, so it may run anybody's.
    assert (clean.ran, clean.scope) == (False, None)
    assert await take_over(bench, b"bob", "b") == b"nothing"
    assert (clean.ran, clean.scope) == (True, "b")
    assert bench.sandbox._children == [used, clean]


async def test_a_module_is_read_once_while_the_first_child_of_a_scope_starts(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    wasm = await bench.wasm(modules.SUM)
    await take_over(bench, b"alice", "a")
    starting: list[bool] = []

    async def load() -> bytes:
        starting.append(not all(child.ready for child in bench.sandbox._children))
        return wasm

    call = make_call(wasm, "i32-array", scope="b")
    shards = [bench.sandbox.run(call, FIVE, load) for _ in range(3)]
    assert [each.output for each in await asyncio.gather(*shards)] == [b"5"] * 3
    assert starting == [True]
    assert bench.sandbox._native._early is None


async def test_a_module_that_one_source_does_not_have_is_read_from_anothers(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    wasm = await bench.wasm(modules.SUM)
    await take_over(bench, b"alice", "a")
    asked: list[str] = []

    def source(name: str, found: bytes | None) -> Callable[[], Awaitable[bytes]]:
        async def load() -> bytes:
            asked.append(name)
            if found is None:
                raise FileNotFoundError(name)
            return found

        return load

    gone = bench.sandbox.run(make_call(wasm, "i32-array", scope="b"), FIVE, source("b", None))
    here = bench.sandbox.run(make_call(wasm, "i32-array", scope="c"), FIVE, source("c", wasm))
    failed, outcome = await asyncio.gather(gone, here, return_exceptions=True)
    assert isinstance(failed, FileNotFoundError)
    assert not isinstance(outcome, BaseException)
    assert outcome.output == b"5"
    assert asked[:2] == ["b", "b"]


async def test_no_child_starts_for_a_small_module_that_is_on_its_way(new_bench: NewBench) -> None:
    bench = await new_bench()
    await bench.run(modules.SUM, "i32-array", FIVE, scope="a")
    wasm = padded(await bench.wasm(modules.SUM), 1_000)
    call = make_call(wasm, "i32-array", scope="a")
    outcome = await bench.sandbox.run(call, FIVE, bench.loader(wasm), module_bytes=len(wasm))
    assert outcome.output == b"5"
    assert bench.sandbox.stats().children == 1


async def test_a_child_that_ran_something_inspects_and_assembles_nothing(
    new_bench: NewBench,
) -> None:
    bench = await new_bench()
    wasm = await bench.wasm(modules.SUM)
    await take_over(bench, b"alice", "a")
    assert (await bench.sandbox.inspect(wasm)).abis == ("i32-array",)
