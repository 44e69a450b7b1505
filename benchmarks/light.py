"""Hubs of a mesh benchmark in a process of their own, told what to do line by line on stdin.

A light worker is a real hub with its store, mesh and signer, but without a sandbox: the result
of a shard is its input. Each line in and out is one JSON object.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from swarm_hub.bootstrap import start_hub
from swarm_hub.components.mesh import MESH, Mesh
from swarm_hub.components.mesh.wire import send_queue
from swarm_hub.components.sandbox import SEED_BYTES, Call, CallResult, Sandbox
from swarm_hub.components.signer import SIGNER
from swarm_hub.core import Hub
from swarm_hub.util.clock import Clock
from swarm_hub.util.hashing import sha256_hex

_WORKER = "worker: {slots: 1, charging_only: false, min_battery: 0}\n"
_frames = {"frames": 0, "messages": 0}
_assigned: list[float] = []
# sandbox → when it got its first shard
_served: dict[Sandbox, float] = {}
_shard_s = 0.0


class Light:
    """The hubs of this process; a single one may also be a gateway."""

    def __init__(self, folder: Path, role: str) -> None:
        self._folder = folder
        self._role = role
        self.hubs: list[Hub] = []
        self._pongs = asyncio.Semaphore(0)

    async def start(self, count: int, mesh: str, trust: str) -> dict[str, Any]:
        """Start hubs; returns the signing key of the first one."""
        for number in range(len(self.hubs), len(self.hubs) + count):
            folder = self._folder / f"{self._role}-{number}"
            folder.mkdir(parents=True)
            role = "gateway: {admission: open}\n" if self._role == "gateway" else _WORKER
            (folder / "configuration.yaml").write_text(
                f"hub: {{name: {self._role}-{number}}}\n{role}"
                f"signer: {{trust: [{trust}]}}\ntelemetry:\nmesh: {mesh}\n"
            )
            hub = await start_hub(folder, Clock())
            self.hubs.append(hub)
            self._equip(hub)
        first = self.hubs[0]
        return {"key": first.services[SIGNER].public_key.hex()}

    def _equip(self, hub: Hub) -> None:
        mesh = hub.services[MESH]
        mesh.on("ping", lambda peer_id, fields: mesh.send(peer_id, "pong", fields))
        mesh.on("pong", lambda _peer_id, _fields: self._pongs.release())

    def report(self) -> dict[str, Any]:
        """Return how many peers are here and when the last assignment came."""
        peers = sum(len(hub.services[MESH].peers()) for hub in self.hubs)
        return {
            "peers": peers,
            "addresses": list(self._mesh.addresses()),
            "last_assigned": max(_assigned, default=None),
            "served": len(_served),
            "last_served": max(_served.values(), default=None),
        }

    @property
    def _mesh(self) -> Mesh:
        return self.hubs[0].services[MESH]

    def shards_take(self, seconds: float) -> dict[str, Any]:
        """From now on let each shard take that long, and forget who had one."""
        global _shard_s
        _shard_s = seconds
        _served.clear()
        return {}

    async def ping(self, count: int, inflight: int, size: int) -> dict[str, Any]:
        """Send messages of `size` bytes, `inflight` at a time, and count what it took."""
        (peer_id,) = self._mesh.peers()
        body = os.urandom(size)
        before, cpu, started = dict(_frames), time.process_time(), time.perf_counter()
        for number in range(count):
            if number >= inflight:
                await self._pongs.acquire()
            self._mesh.send(peer_id, "ping", {"body": body})
        for _ in range(inflight):
            await self._pongs.acquire()
        sent = {name: value - before[name] for name, value in _frames.items()}
        return {
            "took_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - cpu,
            "per_frame": sent["messages"] / sent["frames"],
        }

    def serve(self, size: int) -> dict[str, Any]:
        """Have a blob of random bytes; returns its hash."""
        body = os.urandom(size)

        @asynccontextmanager
        async def source(_peer_id: str, sha: str) -> AsyncIterator[bytes | None]:
            yield body if sha == known else None

        known = sha256_hex(body)
        self._mesh.serve_blobs(source)
        return {"sha": known}

    async def fetch(self, sha: str, size: int) -> dict[str, Any]:
        """Fetch a blob from the peer."""
        (peer_id,) = self._mesh.peers()
        started = time.perf_counter()
        await self._mesh.fetch(peer_id, sha, size)
        return {"took_s": time.perf_counter() - started}

    async def raw_serve(self, size: int) -> dict[str, Any]:
        """Serve random bytes over plain TCP; returns the port."""
        body = os.urandom(size)

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return {"port": server.sockets[0].getsockname()[1]}

    async def raw_fetch(self, port: int, size: int) -> dict[str, Any]:
        """Read them."""
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readexactly(size)
        took_s = time.perf_counter() - started
        writer.close()
        return {"took_s": took_s}

    async def stop(self) -> dict[str, Any]:
        """Stop every hub."""
        await asyncio.gather(*(hub.stop() for hub in self.hubs))
        return {}


async def run_nothing(
    sandbox: Sandbox,
    call: Call,
    data: bytes | bytearray,
    load_wasm: Callable[[], Awaitable[bytes]],
    tag: str = "",
    module_bytes: int = 0,
    seed: bytes = bytes(SEED_BYTES),
) -> CallResult:
    """Give back what came; stands for `Sandbox.run`."""
    now = time.monotonic()
    _assigned.append(now)
    _served.setdefault(sandbox, now)
    if _shard_s:
        await asyncio.sleep(_shard_s)
    return CallResult("ok", "", bytes(data), 0.0, 0.0, None, None)


def _do_without_sandboxes() -> None:
    async def warm(_sandbox: Sandbox) -> None:
        return

    Sandbox.warm = warm
    Sandbox.run = run_nothing


def _count_frames() -> None:
    join = send_queue.join_messages

    def counting(encoded: Any) -> bytes:
        _frames["frames"] += 1
        _frames["messages"] += len(encoded)
        return join(encoded)

    send_queue.join_messages = counting


async def main() -> None:
    """Do what each line says and answer with what it gave."""
    light = Light(Path(sys.argv[1]), sys.argv[2])
    _count_frames()
    _do_without_sandboxes()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        asked: Mapping[str, Any] = json.loads(line)
        answer = getattr(light, asked["do"])(**asked["with"])
        if asyncio.iscoroutine(answer):
            answer = await answer
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
