"""`SwarmExecutor` is used as any executor is; the job of a client that is killed goes on."""

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import AsyncSwarm, ClientError, JobStatus, SwarmExecutor
from swarm_hub.client import Swarm as Client
from tests.client.functions import job
from tests.conftest import Swarm
from tests.helpers.runtimes import PYTHON, give, with_python

pytestmark = pytest.mark.slow


async def test_calls_have_futures_and_those_of_a_function_are_one_job(
    gateway: LocalHub,
) -> None:

    def use() -> None:
        with Client(gateway.url, gateway.token) as client:
            told: list[JobStatus] = []
            with SwarmExecutor(client, progress=told.append, name="calls") as executor:
                futures = [executor.submit(pow, 2, number) for number in range(50)]
                futures.append(executor.submit(int, "z", base=36))
                done, not_done = concurrent.futures.wait(futures, timeout=60)
                assert not not_done
                assert {each.result() for each in done} == {2**n for n in range(50)} | {35}
                assert set(concurrent.futures.as_completed(futures)) == done
                found = list(executor.map(pow, range(30), [2] * 30, chunksize=10, timeout=60))
                assert found == [number**2 for number in range(30)]
                with pytest.raises(ZeroDivisionError) as bad:
                    list(executor.map(job.divides, [1, 0]))
                assert bad.value.node == "worker-0"  # type: ignore[attr-defined]
                with pytest.raises(ClientError, match="an argument of pow can't be sent"):
                    executor.submit(pow, object(), 1)
                cancelled = executor.submit(job.scaled, 1)
                assert cancelled.cancel()
                assert list(executor.map(job.scaled, [])) == []
            with pytest.raises(RuntimeError, match="after shutdown"):
                executor.submit(pow, 1, 1)
            jobs = {each.job_id for each in client.jobs() if each.name == "calls"}
            # 50 calls may meet a moment in which one job leaves.
            assert 1 <= len(jobs) <= 7
            assert {each.job_id for each in told if each.ended} == jobs

    await asyncio.to_thread(use)


async def test_who_stops_while_its_job_is_sent_leaves_none_behind(
    gateway: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, may_answer = asyncio.Event(), asyncio.Event()
    submitted = AsyncSwarm._submitted

    async def slowly(self: AsyncSwarm, *arguments: Any) -> str:
        job_id = await submitted(self, *arguments)
        sent.set()
        await may_answer.wait()
        return job_id

    monkeypatch.setattr(AsyncSwarm, "_submitted", slowly)
    async with AsyncSwarm(gateway.url, gateway.token) as client:
        items = client.imap(job.endless, [0, 1], name="not wanted")
        first = asyncio.ensure_future(anext(items))
        await sent.wait()
        first.cancel()
        may_answer.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        (left,) = [each for each in await client.jobs() if each.name == "not wanted"]
        assert (await client.wait(left.job_id)).state == "cancelled"


async def test_who_takes_no_more_results_cancels_the_job(gateway: LocalHub) -> None:

    def use() -> None:
        with Client(gateway.url, gateway.token) as client:
            with SwarmExecutor(client, name="left") as executor, pytest.raises(TimeoutError):
                list(executor.map(job.endless, [0, 1], timeout=0.5))
            (listed,) = (each for each in client.jobs() if each.name == "left")
            assert client.wait(listed).state == "cancelled"
            found = client.imap(job.endless, [0, 1], shard_size=1, name="left")
            assert next(found) == (0, 0)
            found.close()  # type: ignore[attr-defined]
            left = [each for each in client.jobs() if each.name == "left"]
            assert [client.wait(each).state for each in left] == ["cancelled"] * 2

    await asyncio.to_thread(use)


async def test_a_job_goes_on_without_its_client(swarm: Swarm, tmp_path: Path) -> None:
    gateway, _ = await with_python(swarm, tmp_path, 0)
    program = tmp_path / "program.py"
    program.write_text(
        "from swarm_hub.client import Swarm\n"
        "def cubed(x):\n    return x ** 3\n"
        "if __name__ == '__main__':\n"
        "    swarm = Swarm()\n"
        "    print(swarm.submit(cubed, range(500), shard_size=50).id, flush=True)\n"
        "    print(swarm.map(cubed, range(3)), flush=True)\n"
    )
    env = {**os.environ, "SWARM_HUB_URL": gateway.url, "SWARM_HUB_TOKEN": gateway.token}
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, stdout=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    job_id = (await process.stdout.readline()).decode().strip()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await process.stdout.read()
    give(tmp_path / "compiles" / "ahead", tmp_path / "later")
    await swarm.worker("later", extra=PYTHON)
    again = "from swarm_hub.client import Swarm\nimport sys\n" + (
        "print(sum(v for each in Swarm().job(sys.argv[1]).results() for v in each.value))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", again, job_id, stdout=subprocess.PIPE, env=env
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert int(printed) == sum(number**3 for number in range(500))
