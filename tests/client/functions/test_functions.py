"""Python functions on real workers give what they give here, and fail as they fail here."""

import math
from functools import partial
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import ClientError, JobFailedError, JobStatus, RemoteError, SwarmClient
from tests.client.functions import job
from tests.conftest import Swarm
from tests.helpers.runtimes import with_python

pytestmark = pytest.mark.slow


async def test_a_function_of_a_file_gives_what_it_gives_here(gateway: LocalHub) -> None:
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        found = await swarm.map(job.simulate, range(40), shard_size=7)
        assert found == [job.simulate(seed) for seed in range(40)]
        assert await swarm.map(job.kinds, [None, (1,)]) == [job.kinds(None), job.kinds((1,))]
        offset = 10

        def within(x: int, by: int = offset + 1) -> int:
            """Say: a function within another,
            with a text that is not indented."""
            return x * by * offset

        assert await swarm.map(within, [1, 2]) == [110, 220]
        assert await swarm.map(job.scaled, []) == []
        # It goes on without who submitted it.
        submitted = await swarm.submit(job.scaled, range(10), shard_size=5)
    async with SwarmClient(gateway.url, gateway.token) as another:
        assert await another.job(submitted.id).result() == [3 * (x + 1) for x in range(10)]
        shards = [each.value async for each in another.job(submitted.id).results(ordered=True)]
        assert shards == [[3, 6, 9, 12, 15], [18, 21, 24, 27, 30]]
        items = [*range(5), -1, 2**70]
        told: list[JobStatus] = []
        found = another.imap(job.scaled, iter(items), shard_size=3, progress=told.append)
        assert [each async for each in found] == [(x, 3 * x + 3) for x in items]
        assert (told[-1].state, told[-1].progress.items_done) == ("completed", 7)


@pytest.mark.nightly
async def test_functions_without_a_file_are_called_on_devices(gateway: LocalHub) -> None:
    """In the small: test_packing.py, which calls what is sent of each kind without a device."""
    offset = 10
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        assert await swarm.map(math.isqrt, [2**90]) == [2**45]
        assert await swarm.map(partial(pow, 2), [3]) == [8]
        assert await swarm.map(str.upper, ["ü\n", "\ud800", ""]) == ["Ü\n", "\ud800", ""]
        assert await swarm.map(lambda x: x + offset, [1, 2]) == [11, 12]


@pytest.mark.nightly
async def test_results_and_failures_come_by_any_call(gateway: LocalHub) -> None:
    """In the small: imap_unordered is `--unordered` of test_map.py, imap's failure is that of
    `executor.map` in test_executor.py."""
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        assert await swarm.map(job.scaled, iter([5, -1, 2**70])) == [18, 0, 3 * 2**70 + 3]
        unordered = [each async for each in swarm.imap_unordered(job.scaled, range(20))]
        assert sorted(unordered) == [(x, 3 * x + 3) for x in range(20)]
        with pytest.raises(ZeroDivisionError):
            _ = [each async for each in swarm.imap(job.divides, [1, 0, 2])]


@pytest.mark.nightly
async def test_four_workers_give_what_one_gives(swarm: Swarm, tmp_path: Path) -> None:
    """In the small: the first test, whose shards are of one worker's slots."""
    gateway, _ = await with_python(swarm, tmp_path, 4)
    async with SwarmClient(gateway.url, gateway.token) as client:
        found = await client.map(job.simulate, range(60), shard_size=4)
        assert found == [job.simulate(seed) for seed in range(60)]


async def test_what_a_function_raises_is_raised_with_item_node_and_traceback(
    gateway: LocalHub,
) -> None:
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        with pytest.raises(ZeroDivisionError, match="division by zero") as raised:
            await swarm.map(job.divides, [5, 2, 0, 1])
        assert (raised.value.item, raised.value.node) == (2, "worker-0")  # type: ignore[attr-defined]
        assert 'File "job.py", line ' in str(raised.value.__cause__)
        assert "return 10 / x" in str(raised.value.__cause__)
        assert "_swarm_functions" not in str(raised.value.__cause__)
        assert raised.value.__notes__ == ["item 2, on worker-0"]
        found = await swarm.map(job.bad, range(7), return_exceptions=True)
        assert (found[0], found[1], found[6]) == (0, 1, 6)
        assert isinstance(found[2], RemoteError)
        assert (found[2].kind, str(found[2])) == (
            "__swarm_main__.BadRow", "__swarm_main__.BadRow: row 2",
        )  # fmt: skip
        assert (type(found[3]), str(found[3])) == (RemoteError, "SystemExit: 7")
        assert type(found[4]) is AttributeError
        assert "can't be sent" in str(found[5])
        submitted = await swarm.submit(job.divides, [0])
        with pytest.raises(ZeroDivisionError):
            await submitted.result()


async def test_a_function_that_takes_too_much_ends_itself_alone(gateway: LocalHub) -> None:
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        found = await swarm.map(job.eats, range(4), return_exceptions=True)
        assert (found[0], type(found[1]), found[2:]) == (0, MemoryError, [2, 3])
        assert await swarm.map(job.prints, [1, 2]) == [1, 2]
        found = await swarm.map(job.returns, [20, 1], return_exceptions=True)
        assert "the most is 12,582,912; return less" in str(found[0])
        assert len(found[1]) == 1_000_000
        with pytest.raises(JobFailedError, match="exit 3") as failed:
            await swarm.map(job.crashes, range(2), shard_size=1)
        assert failed.value.item == 1


@pytest.mark.nightly
async def test_an_item_that_ends_its_interpreter_or_does_not_end_loses_no_other(
    gateway: LocalHub,
) -> None:
    """In the small: test_isolation.py. The limit is above what a start takes on a busy machine."""
    limits = {"wall_time": 4}
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        found = await swarm.map(job.crashes, range(4), return_exceptions=True)
        assert (found[0], found[2:]) == (0, [2, 3])
        assert isinstance(found[1], RemoteError)
        assert "exit 3" in str(found[1])
        assert (found[1].item, found[1].node) == (1, "worker-0")  # type: ignore[attr-defined]
        with pytest.raises(JobFailedError) as failed:
            await swarm.map(job.endless, range(3), limits=limits, shard_size=1)
        assert failed.value.item == 1
        for size, function in ((3, job.endless), (None, job.endless_at_rest)):
            found = await swarm.map(
                function, range(20), limits=limits, shard_size=size, return_exceptions=True
            )
            assert [*found[:1], *found[2:]] == [0, *range(2, 20)]
            assert (type(found[1]), found[1].item) == (RemoteError, 1)
            assert "longer than its limit of 4 s" in str(found[1])


@pytest.mark.nightly
async def test_results_that_are_compared_come_from_fresh_interpreters(
    swarm: Swarm, tmp_path: Path
) -> None:
    """In the small: a call that is compared has an instance a shard in the tests of the sandbox."""
    gateway, _ = await with_python(swarm, tmp_path, 3)
    async with SwarmClient(gateway.url, gateway.token) as client:
        submitted = await client.submit(job.calls_before, range(4), shard_size=2, redundancy=3)
        assert await submitted.result(timeout=60) == [0, 1, 0, 1]
        pages = [page async for page in client.receipts(submitted)]
    results = [each for page in pages for each in page["results"]]
    for index in range(2):
        found = [each for each in results if each["index"] == index]
        # Two who agree are a majority of three.
        assert len({each["node_id"] for each in found}) >= 2
        assert len({each["result_sha"] for each in found}) == 1


async def test_a_hostile_function_finds_nothing(gateway: LocalHub) -> None:
    kinds = [
        "environment", "files", "passwd", "writes", "network", "ctypes", "fork", "getpid", "getuid",
    ]  # fmt: skip
    async with SwarmClient(gateway.url, gateway.token) as swarm:
        found = await swarm.map(job.hostile, kinds, return_exceptions=True)
    assert found[0].keys() <= {"PYTHONHASHSEED"}
    assert [each for each in found[1] if "passwd" in each or "/home" in each] == []
    assert type(found[2]) is FileNotFoundError
    assert isinstance(found[3], OSError)
    assert isinstance(found[4], OSError | AttributeError)
    assert type(found[5]) is ModuleNotFoundError
    assert type(found[6]) is AttributeError


async def test_a_gateway_without_python_says_how_to_get_it(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra="runtimes: {python: false, javascript: false}\n")
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(ClientError, match="no python runtime"):
            await client.map(job.scaled, [1])
