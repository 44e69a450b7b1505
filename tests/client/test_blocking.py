"""The blocking twin: beside a running loop, from threads, after a fork, at a program's end.

What has to do with a whole program is a program here, run with every warning an error.
"""

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import AsyncSwarm, JobStatus, Swarm
from tests import conftest
from tests.conftest import RunningHub

Modules = dict[str, bytes]
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def gateway(swarm: conftest.Swarm) -> RunningHub:
    made = await swarm.gateway()
    await swarm.worker("worker")
    return made


async def program(gateway: RunningHub, code: str, interrupt_at: str = "") -> tuple[int, str, str]:
    """Run a program that has a `url`, a `token` and a `module`; returns its code and output."""
    head = (
        "import asyncio, os, signal, sys\n"
        # Who runs the tests in the background ignores it, and so would this program.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from swarm_hub.client import AsyncSwarm, Swarm\n"
        f"url, token = {gateway.url!r}, {gateway.token!r}\n"
        f"module = {str(ROOT / 'examples/primes/primes.wat')!r}\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", head + code,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    if interrupt_at:
        said = await process.stdout.readuntil(interrupt_at.encode())
        process.send_signal(2)
    out, err = await process.communicate()
    return process.returncode or 0, (said + out).decode(), err.decode()


async def cancel_all(gateway: RunningHub) -> None:
    """Cancel what is unfinished: a hub holds answers about it for as long as it was asked to."""
    async with AsyncSwarm(gateway.url, gateway.token) as swarm:
        for job in await swarm.jobs(wanted={"state": "queued,running"}):
            await swarm.cancel(job)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Do something that blocks while the hub goes on in this thread's loop."""
    return await asyncio.to_thread(work)


async def test_it_works_where_a_loop_runs_as_in_a_notebook(gateway: RunningHub) -> None:
    async def cell() -> int:
        swarm = Swarm(gateway.url, gateway.token)
        try:
            return int(swarm.health().nodes)
        finally:
            swarm.close()

    assert await in_thread(lambda: asyncio.run(cell())) == 1


async def test_a_program_that_closes_nothing_ends_without_a_word(gateway: RunningHub) -> None:
    code = """
swarm = Swarm(url, token)
print(swarm.map(module, range(100), reduce="sum"))
events = swarm.events(since=0)
print(next(events).event_type)
job = swarm.submit(module, range(100), constraints={"node_labels": {"gpu": "yes"}})
future = job.future()
print(future.done())
"""
    assert await program(gateway, code) == (0, "25\nnode_up\nFalse\n", "")
    await cancel_all(gateway)


async def test_a_swarm_of_a_loop_that_has_ended_works_in_the_next(gateway: RunningHub) -> None:
    code = """
swarm = AsyncSwarm(url, token)
for _ in range(2):
    print(asyncio.run(swarm.map(module, range(100), reduce="sum")))
"""
    assert await program(gateway, code) == (0, "25\n25\n", "")


async def test_a_forked_child_and_its_parent_both_go_on(gateway: RunningHub) -> None:
    code = """
swarm = Swarm(url, token)
print(swarm.health().state, flush=True)
if not (pid := os.fork()):
    print("child", swarm.map(module, range(100), reduce="sum"), flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(swarm.map(module, range(100), reduce="sum"))
"""
    code_, out, err = await program(gateway, code)
    assert (code_, out, err) == (0, "running\nchild 25\n7\n25\n", "")


async def test_ctrl_c_ends_a_call_and_leaves_the_client_usable(gateway: RunningHub) -> None:
    code = """
swarm = Swarm(url, token)
job = swarm.submit(module, range(100), constraints={"node_labels": {"gpu": "yes"}})
try:
    job.wait(progress=lambda status: print(status.state, flush=True))
except KeyboardInterrupt:
    print("interrupted")
print(job.cancel().state)
"""
    code_, out, err = await program(gateway, code, interrupt_at="queued\n")
    assert (code_, out, err) == (0, "queued\ninterrupted\ncancelled\n", "")


async def test_several_threads_use_one(gateway: RunningHub, modules: Modules) -> None:
    def work() -> list[int]:
        found: list[int] = []
        with Swarm(gateway.url, gateway.token) as swarm:

            def one(n: int) -> None:
                found.append(swarm.map(modules["primes"], range(n), reduce="sum"))

            threads = [threading.Thread(target=one, args=(n,)) for n in (10, 100, 1000) * 2]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return sorted(found)

    assert await in_thread(work) == [4, 4, 25, 25, 168, 168]


async def test_jobs_are_handles_here_too(gateway: RunningHub, modules: Modules) -> None:
    def work() -> None:
        with Swarm(gateway.url, gateway.token) as swarm:
            job = swarm.submit(modules["primes"], range(100), shard_size=50, reduce="sum")
            assert job.result(timeout=90) == 25
            assert [each.value for each in job.results(ordered=True)] == [15, 10]
            assert repr(job) == f"<Job {job.id} completed>"
            assert swarm.job(job.id).future().result(30) == 25
            again = swarm.resubmit(job)
            assert {each.id for each in swarm.as_completed([job, again])} == {job, again}
            assert swarm.gather(job, again) == [25, 25]

    await in_thread(work)


async def test_progress_is_told_in_the_thread_that_waits_and_its_errors_are_raised(
    gateway: RunningHub, modules: Modules
) -> None:
    def work() -> None:
        with Swarm(gateway.url, gateway.token) as swarm:
            told_in: set[threading.Thread] = set()

            def tell(status: JobStatus) -> None:
                told_in.add(threading.current_thread())

            swarm.run(modules["primes"], range(100), progress=tell)
            assert told_in == {threading.current_thread()}

            def fail(status: JobStatus) -> None:
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                swarm.map(modules["primes"], range(100), progress=fail)
            assert swarm.health().ok

    await in_thread(work)


async def test_one_that_is_not_needed_any_more_leaves_no_thread(gateway: RunningHub) -> None:
    def work() -> None:
        swarm = Swarm(gateway.url, gateway.token)
        events = swarm.events(since=0)
        next(events)
        del swarm, events
        gc.collect()

    await in_thread(work)
    assert "swarm_hub client" not in {thread.name for thread in threading.enumerate()}


async def test_after_its_end_a_call_begins_anew(gateway: RunningHub) -> None:
    def work() -> None:
        swarm = Swarm(gateway.url, gateway.token)
        for _ in range(2):
            with swarm:
                assert swarm.health().ok

    await in_thread(work)
