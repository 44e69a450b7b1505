"""The jobs of a soak: different shapes, each with the result that must come of it."""

import asyncio
import json
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.client import ApiError, SwarmClient
from swarm_hub.components.sandbox import Sandbox
from tests.helpers.modules import SPIN
from tests.soak.part import HONEST_LABEL, Part

_EXAMPLES = Path(__file__).parents[2] / "examples"
_NAMES = ("sum_i32/sum", "primes/primes", "wordcount/wordcount", "echo/echo", "bytesum/bytesum")
_FINISHED = ("completed", "failed", "cancelled")
_CANCELLED_SHARE = 0.12
_TWICE_SHARE = 0.25
# Of these jobs the results are compared, and the node that lies takes part.
_VOTED_SHARE = 0.3
_VOTED = {"redundancy": 3}
_HONEST = {"constraints": {"node_labels": HONEST_LABEL}}
_RECORD_BYTES = 1024
_SLOW_S = 90.0


@dataclass(slots=True)
class Wanted:
    """A job as it is submitted, and what must come of it."""

    module: str
    items: Any
    spec: dict[str, Any]
    result: Any
    key: str
    cancel: bool = False
    job_id: str | None = None
    state: str | None = None


async def assemble() -> dict[str, bytes]:
    """Return the modules of the jobs."""

    async def work(sandbox: Sandbox) -> dict[str, bytes]:
        texts = {
            name.rpartition("/")[2]: (_EXAMPLES / f"{name}.wat").read_text() for name in _NAMES
        }
        return {
            name: await sandbox.assemble(text) for name, text in [*texts.items(), ("spin", SPIN)]
        }

    return await with_sandbox(work)


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
            wanted = self._next()
            self.jobs.append(wanted)
            began = time.monotonic()
            await self._submit(wanted)
            if wanted.cancel:
                await self._cancel(wanted)
            await self._check(wanted)
            self._part.counts["jobs"] += 1
            if (took_s := time.monotonic() - began) > _SLOW_S:
                self._part.counts["slow"] += 1
                self._part.counts["slowest_s"] = max(self._part.counts["slowest_s"], round(took_s))

    def _next(self) -> Wanted:
        rng = self._rng
        make: Callable[[random.Random], tuple[str, Any, dict[str, Any], Any]] = rng.choice(_SHAPES)
        module, items, spec, result = make(rng)
        voted = rng.random() < _VOTED_SHARE
        self._part.counts["voted"] += voted
        spec = {**spec, **(_VOTED if voted else _HONEST)}
        key = f"{self._part.name}-{len(self.jobs)}-{rng.randrange(10**9)}"
        return Wanted(module, items, spec, result, key, rng.random() < _CANCELLED_SHARE)

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
            if status["state"] == "cancelled" and wanted.cancel:
                return
            if status["state"] != "completed":
                failures = "; ".join(status["failures"])
                part.problem(f"{wanted.module} job {job_id} is {status['state']}: {failures}")
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


def _spin(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    count = rng.randint(200, 1800)
    return "spin", range(count), {"reduce": "sum", "shard_size": rng.randint(40, 200)}, count


def _primes(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    below = rng.choice(((1000, 168), (10_000, 1229), (100_000, 9592)))
    return "primes", range(below[0]), {"reduce": "sum"}, below[1]


def _sum(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    values = [rng.randrange(-(2**20), 2**20) for _ in range(rng.randint(100, 5000))]
    return (
        "sum",
        struct.pack(f"<{len(values)}i", *values),
        {"split": "i32", "reduce": "sum"},
        sum(values),
    )


def _tiny(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    """Many shards of one item."""
    body = rng.randbytes(64 * rng.randint(50, 500))
    return "echo", body, _bytes_spec("records:64", 1), body


def _large(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    """Dataset, inputs and results that are blobs."""
    body = rng.randbytes(_RECORD_BYTES * rng.randint(100, 900))
    return "echo", body, _bytes_spec(f"records:{_RECORD_BYTES}", rng.randint(70, 300)), body


def _bytesum(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    """A blob as dataset, small results."""
    body = rng.randbytes(_RECORD_BYTES * rng.randint(100, 400))
    spec = {"abi": "bytes", "split": f"records:{_RECORD_BYTES}", "reduce": "sum", "shard_size": 80}
    return "bytesum", body, spec, sum(body)


def _words(rng: random.Random) -> tuple[str, Any, dict[str, Any], Any]:
    words = [f"word{rng.randrange(50)}" for _ in range(rng.randint(200, 3000))]
    body = "".join(f"{word}\n" for word in words).encode()
    return "wordcount", body, {"split": "lines", "reduce": "json"}, dict(Counter(words))


def _bytes_spec(split: str, shard_size: int) -> dict[str, Any]:
    return {"abi": "bytes", "split": split, "reduce": "concat", "shard_size": shard_size}


_SHAPES = (_spin, _primes, _sum, _tiny, _large, _bytesum, _words)
