"""The clients of a soak: each submits one job after the other and checks what comes of it."""

import asyncio
import json
import random
import time
from collections.abc import Callable

from swarm_hub.client import ApiError, SwarmClient
from tests.soak.jobs import Wanted, any_job, endless_job, small_job, wrong_end
from tests.soak.part import Part

_FINISHED = ("completed", "failed", "cancelled")
_TWICE_SHARE = 0.25
_SLOW_S = 90.0
_ENDLESS_PAUSE_S = (1.0, 10.0)
_SMALL_PAUSE_S = (2.0, 5.0)


class Load:
    """Clients that submit one job after the other to a part and check each."""

    def __init__(self, part: Part, modules: dict[str, bytes], rng: random.Random) -> None:
        self._part = part
        self._modules = modules
        self._rng = rng
        self.jobs: list[Wanted] = []

    async def client(self, over: asyncio.Event) -> None:
        """Submit and check jobs until the soak is over."""
        while not over.is_set():
            await self._run(self._made(lambda key: any_job(self._rng, key)))

    async def endless_client(self, over: asyncio.Event) -> None:
        """Now and then submit a job that never ends."""
        while not over.is_set():
            await self._run(self._made(lambda key: endless_job(self._rng, key)))
            self._part.counts["endless"] += 1
            await asyncio.sleep(self._rng.uniform(*_ENDLESS_PAUSE_S))

    async def small_client(self, over: asyncio.Event) -> None:
        """Submit one small job after the other, and note how long each takes."""
        while not over.is_set():
            began = time.monotonic()
            await self._run(self._made(small_job))
            self._part.waited(began, time.monotonic())
            await asyncio.sleep(self._rng.uniform(*_SMALL_PAUSE_S))

    async def _run(self, wanted: Wanted) -> None:
        began = time.monotonic()
        await self._submit(wanted)
        if wanted.cancel:
            await self._cancel(wanted)
        await self._check(wanted)
        self._part.counts["jobs"] += 1
        if (took_s := time.monotonic() - began) > _SLOW_S:
            self._part.counts["slow"] += 1
            self._part.counts["slowest_s"] = max(self._part.counts["slowest_s"], round(took_s))

    def _made(self, make: Callable[[str], Wanted]) -> Wanted:
        key = f"{self._part.name}-{len(self.jobs)}-{self._rng.randrange(10**9)}"
        wanted = make(key)
        self._part.counts["voted"] += "redundancy" in wanted.spec
        self.jobs.append(wanted)
        return wanted

    async def _submit(self, wanted: Wanted) -> None:
        twice = self._rng.random() < _TWICE_SHARE
        answers = await asyncio.gather(*(self._submit_once(wanted) for _ in range(1 + twice)))
        self._part.counts["sent_twice"] += twice
        wanted.job_id = answers[0]
        if len(set(answers)) > 1:
            self._part.problem(f"two jobs for the key {wanted.key}: {answers}")

    async def _submit_once(self, wanted: Wanted) -> str:
        async def submit(client: SwarmClient) -> str:
            return await client.submit(
                self._modules[wanted.module],
                wanted.items,
                idempotency_key=wanted.key,
                **wanted.spec,
            )

        return await self._part.ask("submit", submit)

    async def _cancel(self, wanted: Wanted) -> None:
        job_id = _known(wanted)
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.3, 2.0)))
        status = await self._part.ask("cancel", lambda client: client.cancel(job_id))
        self._part.counts["cancelled"] += status["state"] == "cancelled"

    async def _check(self, wanted: Wanted) -> None:
        job_id = _known(wanted)
        part = self._part
        try:
            while True:
                status = await part.ask("status", lambda client: client.status(job_id, wait_s=8))
                if status["state"] in _FINISHED:
                    break
            wanted.state = status["state"]
            if (wrong := wrong_end(wanted, status)) is not None:
                part.problem(f"{wanted.module} job {job_id} is {wrong}")
                return
            if status["state"] != "completed":
                return
            body = await part.ask("result", lambda client: client.result(job_id))
            if self._rng.random() < _TWICE_SHARE and await self._submit_once(wanted) != job_id:
                part.problem(f"the key of job {job_id} gave another job after its end")
        except ApiError as error:
            part.problem(f"job {job_id} was accepted, and then: {error.status} {error}")
            return
        found = body if wanted.spec["reduce"] == "concat" else json.loads(body)
        if found != wanted.result:
            part.problem(
                f"{wanted.module} job {job_id} gave {str(found)[:80]}, "
                f"expected {str(wanted.result)[:80]}"
            )


def _known(wanted: Wanted) -> str:
    assert wanted.job_id is not None
    return wanted.job_id
