"""What REST carries: submits, uploads, downloads, and CPU a request; live.py has the websocket.

A gateway and two workers are processes of their own. Clients write prepared requests to sockets, so
that the gateway is measured and not they.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from figures import Figures, percentile, start
from machine import foreign_cores, look, sync_ms, tree_cpu_s
from rounds import measured, spread, warm_up

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm, free_port
from swarm_hub.client import SwarmClient
from swarm_hub.const import API_ROOT
from swarm_hub.util.strict_cbor import to_cbor

_EXAMPLES: Final = Path(__file__).parents[1] / "examples"
_WORKERS: Final = 2
_SUBMITTERS: Final = 16
_PROBE_EVERY_S: Final = 0.01
_PLAIN: Final = "--plain-server"


async def main() -> None:
    """Start a gateway with two workers and measure every figure."""
    figures, arguments = start(__doc__ or "")
    quick = arguments.quick
    module = await with_sandbox(
        lambda sandbox: sandbox.assemble((_EXAMPLES / "echo/echo.wat").read_text())
    )
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        figures.add("sync_before_ms", sync_ms(Path(folder)), "ms")
        before, swarm = look(), LocalSwarm(Path(folder))
        try:
            gateway = swarm.start_gateway(
                api={"connections": "3000", "connections_per_ip": "3000", "request": "1GiB"},
                gateway={"jobs_per_owner": "null"},
            )
            for number in range(_WORKERS):
                swarm.start_worker(f"worker-{number}", gateway)
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, _WORKERS)
                await _submits(figures, gateway, module, 500 if quick else 3000)
                await _requests(figures, gateway, 500 if quick else 2000)
                await _bytes(figures, gateway, client, module, 16 if quick else 128)
            figures.add("foreign_cores", foreign_cores(before, look()), "cores")
        finally:
            swarm.stop()


@dataclass(slots=True)
class _Line:
    """One kept connection that sends prepared requests and reads answers with a length."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator["_Line"]:
        host, _, port = url.rpartition("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(head[9:12]), await self.reader.readexactly(length)


def _request(gateway: LocalHub, call: str, body: bytes = b"") -> bytes:
    method, path = call.split(" ")
    kind = b"Content-Type: application/cbor\r\n" if body else b""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {gateway.url.rpartition('/')[2]}\r\n"
        f"Authorization: Bearer {gateway.token}\r\nContent-Length: {len(body)}\r\n"
    ).encode() + kind + b"\r\n" + body  # fmt: skip


async def _submits(figures: Figures, gateway: LocalHub, module: bytes, count: int) -> None:
    """Submit small jobs on several connections at once, while somebody asks for the health."""
    body = to_cbor(
        {
            "module": module,
            "dataset": [["dataset", b"hello"]],
            "spec": {"abi": "bytes", "split": "records:5", "reduce": "concat"},
        }
    )
    request = _request(gateway, f"POST {API_ROOT}/jobs", body)
    health = _request(gateway, f"GET {API_ROOT}/health")
    probes: list[float] = []

    async def submit(share: int) -> None:
        async with _Line.to(gateway.url) as line:
            for _ in range(share):
                status, answer = await line.ask(request)
                if status != 202:
                    raise SystemExit(f"a job was refused: {status} {answer!r}")

    measuring = True

    async def probe() -> None:
        async with _Line.to(gateway.url) as line:
            while measuring:
                began = time.perf_counter()
                await line.ask(health)
                probes.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(_PROBE_EVERY_S)

    cpu_ms: list[float] = []

    async def rate() -> float:
        cpu_s, began = tree_cpu_s([gateway.pid]), time.perf_counter()
        await asyncio.gather(*(submit(count // _SUBMITTERS) for _ in range(_SUBMITTERS)))
        took_s = time.perf_counter() - began
        sent = count // _SUBMITTERS * _SUBMITTERS
        # Those that were taken in are done before the next round.
        async with SwarmClient(gateway.url, gateway.token) as client:
            for job in await client.jobs():
                await client.wait(job["job_id"])
        cpu_ms.append((tree_cpu_s([gateway.pid]) - cpu_s) / sent * 1000)
        return sent / took_s

    await warm_up(rate)
    cpu_ms.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(probe())
        found = await measured(rate)
        measuring = False
    figures.add_spread("submits_per_s", found, "jobs/s", better="higher", target=300)
    figures.add_spread("submit_gateway_cpu_ms", spread(cpu_ms), "ms", of="a job of one shard")
    figures.add(
        "health_p99_ms_under_load", percentile(probes, 0.99), "ms", target=100, probes=len(probes),
        p50=f"{percentile(probes, 0.5):.1f}",
    )  # fmt: skip


async def _requests(figures: Figures, gateway: LocalHub, count: int) -> None:
    """Compare the CPU of a request with that of a plain aiohttp handler, in turns."""
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = (await client.jobs())[0]["job_id"]
    calls = {
        "health": f"GET {API_ROOT}/health",
        "status": f"GET {API_ROOT}/jobs/{job_id}",
        "list": f"GET {API_ROOT}/jobs?limit=50",
    }
    port = free_port()
    plain = await asyncio.create_subprocess_exec(sys.executable, __file__, _PLAIN, str(port))
    try:
        async with _Line.to(gateway.url) as ours, await _first(f"x/127.0.0.1:{port}") as other:
            for name, call in calls.items():
                request = _request(gateway, call)
                _, answer = await ours.ask(request)
                asked = _request(gateway, f"GET /{len(answer)}")

                async def cost_us(line: _Line, pid: int, request: bytes) -> float:
                    used_s = tree_cpu_s([pid])
                    for _ in range(count):
                        await line.ask(request)
                    return (tree_cpu_s([pid]) - used_s) / count * 1e6

                pairs = [
                    (
                        await cost_us(ours, gateway.pid, request),
                        await cost_us(other, plain.pid, asked),
                    )
                    for _ in range(6)
                ][1:]
                figures.add_spread(f"{name}_cpu_us", spread([us for us, _ in pairs]), "us")
                ratio = spread([us / bare_us for us, bare_us in pairs])
                figures.add_spread(f"{name}_cpu_to_plain", ratio, "ratio", bytes=len(answer))
    finally:
        plain.kill()
        await plain.wait()


async def _first(url: str) -> contextlib.AbstractAsyncContextManager[_Line]:
    """Wait until a server listens."""
    while True:
        with contextlib.suppress(OSError):
            async with _Line.to(url):
                return _Line.to(url)
        await asyncio.sleep(0.05)


def serve_plainly(port: int) -> None:
    """Serve JSON of the size that the path says, with nothing around it."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response("x" * (int(request.path[1:]) - 2))

    application = web.Application()
    application.router.add_get("/{size}", answer)
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None)


async def _bytes(
    figures: Figures, gateway: LocalHub, client: SwarmClient, module: bytes, mb: int
) -> None:
    """Send a large dataset, and fetch a large result again and again."""
    size = mb * 2**20
    job_ids: list[str] = []

    async def timed(call: Callable[[], Awaitable[Any]]) -> float:
        began = time.perf_counter()
        await call()
        return size / 1e6 / (time.perf_counter() - began)

    async def upload() -> float:
        # Other bytes each time: those that the hub has are not sent again.
        data = os.urandom(size)

        async def submit() -> None:
            job_ids.append(
                await client.submit(
                    module, data, abi="bytes", split=f"records:{2**20}", reduce="concat"
                )
            )

        rate = await timed(submit)
        await client.wait(job_ids[-1])
        return rate

    figures.add_spread(
        "upload_mb_per_s", await measured(upload, 3), "MB/s", better="higher", target=150, mb=mb
    )
    url = f"{gateway.url}{API_ROOT}/jobs/{job_ids[-1]}/result"
    headers = {"Authorization": f"Bearer {gateway.token}", "Accept-Encoding": "identity"}

    async with aiohttp.ClientSession(headers=headers) as session:

        async def fetch() -> None:
            async with session.get(url) as response:
                got = 0
                async for part in response.content.iter_any():
                    got += len(part)
                if got != size:
                    raise SystemExit(f"{got} of {size} bytes came")

        await fetch()
        found = await measured(lambda: timed(fetch))
    figures.add_spread(
        "download_mb_per_s", found, "MB/s", better="higher", target=300, mb=mb, of="page cache"
    )


if __name__ == "__main__":
    if _PLAIN in sys.argv:
        serve_plainly(int(sys.argv[-1]))
    else:
        asyncio.run(main())
