"""A small swarm of real hub processes on this machine, for the demo, tests and benchmarks."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from swarm_hub.client import SwarmClient, UnreachableError
from swarm_hub.components.mesh import peer_id_from_seed
from swarm_hub.const import (
    CONFIG_FILE,
    IDENTITY_KEY_FILE,
    SIGNER_KEY_FILE,
    STORAGE_DIR,
    TOKENS_FILE,
)
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key

_JOIN_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 10.0
_NO_KEYS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class LocalHub:
    """One hub process with its directory."""

    name: str
    folder: Path
    peer_id: str
    public_key: str
    mesh_port: int
    url: str = ""
    token: str = ""
    # Where others reach it.
    host: str = "127.0.0.1"
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def address(self) -> str:
        """Where other hubs dial this one."""
        return f"/ip4/{self.host}/tcp/{self.mesh_port}/p2p/{self.peer_id}"

    def start(self) -> None:
        """Start the process; its log is `hub.log` in its directory."""
        with (self.folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "swarm_hub", "run", "-c", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def kill(self) -> None:
        """Kill the process as a phone's system would, without a warning."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        """Return what the process has logged."""
        path = self.folder / "hub.log"
        return path.read_text(errors="replace") if path.exists() else ""


class LocalSwarm:
    """Gateways and workers with keys that trust each other, all on loopback.

    `mesh` are keys of that section for every hub.
    """

    def __init__(self, folder: Path, mesh: Mapping[str, str] = _NO_KEYS) -> None:
        self._folder = folder
        self._mesh = mesh
        self.hubs: list[LocalHub] = []

    def start_gateway(
        self,
        name: str = "gateway",
        extra: str = "",
        mesh: Mapping[str, str] = _NO_KEYS,
        gateway: Mapping[str, str] = _NO_KEYS,
        api: Mapping[str, str] = _NO_KEYS,
    ) -> LocalHub:
        """Start a gateway; `extra` is added to its configuration, the rest to their sections."""
        hub = self._new(name)
        port = free_port()
        hub.url = f"http://127.0.0.1:{port}"
        tokens = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
        _, hub.token = tokens.create("local", "admin", time.time())
        own = _inline({"admission": "open", **gateway})
        listen = _inline({"host": "127.0.0.1", "port": str(port), **api})
        self._configure(
            hub,
            f"gateway: {{{own}}}\napi: {{{listen}}}\n{extra}",
            {"bootnodes": "[]", **mesh},
        )
        hub.start()
        return hub

    def start_worker(
        self, name: str, *gateways: LocalHub, extra: str = "", mesh: Mapping[str, str] = _NO_KEYS
    ) -> LocalHub:
        """Start a worker that obeys these gateways; `extra` and `mesh` as for a gateway."""
        hub = self._new(name)
        # The battery rules are for phones in pockets, not for a demonstration.
        worker = "" if "worker:" in extra else "worker: {charging_only: false, min_battery: 0}\n"
        trust = ", ".join(f"'{gateway.public_key}'" for gateway in gateways)
        self._configure(
            hub,
            f"{worker}signer: {{trust: [{trust}]}}\n{extra}",
            {"bootnodes": f"[{', '.join(gateway.address for gateway in gateways)}]", **mesh},
        )
        hub.start()
        return hub

    async def wait_for_workers(self, client: SwarmClient, count: int) -> None:
        """Return once the gateway has `count` workers; raises HubError with a log on failure."""
        deadline = time.monotonic() + _JOIN_TIMEOUT_S
        up = 0
        while time.monotonic() < deadline:
            for hub in self.hubs:
                if hub.process is not None and hub.process.poll() is not None:
                    raise HubError(f"{hub.name} ended by itself:\n{hub.log()[-2000:]}")
            try:
                up = sum(node["state"] == "up" for node in await client.nodes())
            except UnreachableError:
                up = 0
            else:
                if up >= count:
                    return
            await asyncio.sleep(0.05)
        raise HubError(
            f"only {up} of {count} workers joined within {_JOIN_TIMEOUT_S:.0f} s:\n"
            + "\n".join(hub.log()[-1000:] for hub in self.hubs)
        )

    def stop(self) -> None:
        """End every process that was started here."""
        running = [hub for hub in self.hubs if hub.process and hub.process.poll() is None]
        for hub in running:
            assert hub.process is not None
            hub.process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for hub in running:
            assert hub.process is not None
            try:
                hub.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                hub.kill()

    def _new(self, name: str) -> LocalHub:
        folder = self._folder / name
        storage = folder / STORAGE_DIR
        storage.mkdir(parents=True, mode=0o700, exist_ok=True)
        identity = load_or_create_key(storage / IDENTITY_KEY_FILE, "mesh identity")
        signer = load_or_create_key(storage / SIGNER_KEY_FILE, "signer's key")
        hub = LocalHub(
            name,
            folder,
            peer_id_from_seed(identity),
            SigningKey(signer).public_key.hex(),
            free_port(),
        )
        self.hubs.append(hub)
        return hub

    def _configure(self, hub: LocalHub, roles: str, mesh: Mapping[str, str]) -> None:
        listen = f"[/ip4/127.0.0.1/tcp/{hub.mesh_port}]"
        keys = {"listen": listen, "mdns": "false", **self._mesh, **mesh}
        section = "".join(f"  {key}: {value}\n" for key, value in keys.items())
        # Nobody waits for a runtime here who does not ask for it.
        runtimes = "" if "runtimes:" in roles else "runtimes: {python: false, javascript: false}\n"
        (hub.folder / CONFIG_FILE).write_text(
            f"hub: {{name: {hub.name}}}\n{runtimes}{roles}mesh:\n{section}"
        )


def _inline(keys: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {text}" for key, text in keys.items())


@asynccontextmanager
async def running_swarm(
    folder: Path, workers: Sequence[str]
) -> AsyncIterator[tuple[LocalSwarm, SwarmClient]]:
    """Start a gateway and workers with these names, wait until they have joined, and end them."""
    swarm = LocalSwarm(folder)
    try:
        gateway = swarm.start_gateway()
        for name in workers:
            swarm.start_worker(name, gateway)
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, len(workers))
            yield swarm, client
    finally:
        swarm.stop()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that no one else is given within the next minute.

    The system keeps the port of a connection that was ended here (TIME_WAIT): it gives that port to
    no one who asks for any port, only to a server that names it.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            # The side that closes first is the one in TIME_WAIT, and the other must have received
            # its FIN.
            client.recv(1)
        return port
