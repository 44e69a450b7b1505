"""Devices with networks of their own: each in a network namespace, joined by virtual cables.

Everything is named after this process and removed when the lab closes; what a killed process
left behind is removed by the next one.
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import psutil

from swarm_hub.cli.swarm import LocalHub, free_port
from swarm_hub.client import SwarmClient
from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.const import (
    CONFIG_FILE,
    IDENTITY_KEY_FILE,
    SIGNER_KEY_FILE,
    STORAGE_DIR,
    TOKENS_FILE,
)
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key
from tests.helpers.signals import signal_all
from tests.helpers.swarms import MESH
from tests.networks.link import PERFECT, Link, Quality

_T = TypeVar("_T")

MESH_PORT: Final = 4001
API_PORT: Final = 8470
_PREFIX: Final = "swarm-hub-test"
_NAMESPACES: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_STOP_TIMEOUT_S: Final = 10.0
_numbers = itertools.count(1)


def missing() -> str | None:
    """Return why there can be no lab here, None if there can."""
    if shutil.which("ip") is None:
        return "the command ip is missing: run script/setup --test (Debian: iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return None


class Device:
    """A network namespace, with a hub in it or none yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-{name}"
        ip("netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")

    def ip(self, *command: str) -> None:
        """Run the command ip inside."""
        ip("-n", self.namespace, *command)

    def inside(self, make: Callable[[], _T]) -> _T:
        """Return what `make` makes inside; a socket stays in the network where it was made."""
        made: list[_T] = []

        def run() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with (_NAMESPACES / self.namespace).open() as entered:
                if libc.setns(entered.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {self.namespace}")
            made.append(make())

        # The namespace is the thread's, so no other thread is moved.
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return made[0]

    def listener(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Return a socket that listens inside."""
        return self.inside(lambda: socket.create_server((host, port)))

    def way_to(self, host: str, port: int) -> Callable[[], tuple[socket.socket, tuple[str, int]]]:
        """Return what opens a socket here, for a connection to there."""
        return lambda: (self.inside(socket.socket), (host, port))

    def remove(self) -> None:
        """Remove the namespace and its cables."""
        ip("netns", "del", self.namespace)


@dataclass(slots=True)
class Cable:
    """Two devices joined; each has an address of a network of their own."""

    first: Device
    second: Device
    first_address: str
    second_address: str
    interface: str

    def unplug(self) -> None:
        """Let nothing pass, as when somebody pulls the plug: nobody is told."""
        self.first.ip("link", "set", self.interface, "down")

    def plug_in(self) -> None:
        """Let everything pass again."""
        self.first.ip("link", "set", self.interface, "up")


@dataclass(slots=True)
class NetworkHub(LocalHub):
    """A hub process in the namespace of its device."""

    device: Device | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process; its log is `hub.log` in its directory."""
        assert self.device is not None
        command = ["ip", "netns", "exec", self.device.namespace, sys.executable, "-m", "swarm_hub"]
        with (self.folder / "hub.log").open("ab") as log:
            # ip replaces itself by the hub, so the process id is the hub's.
            self.process = subprocess.Popen(
                [*command, "run", "-c", str(self.folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def freeze(self) -> None:
        """Stop all processes, the sandbox's too, as a phone's system does with an app's."""
        signal_all(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the processes go on."""
        signal_all(self.pid, signal.SIGCONT)

    @property
    def database(self) -> Path:
        """The file of its store."""
        return self.folder / "swarm_hub.db"


class Lab:
    """The devices, cables and hubs of one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._devices: list[Device] = []
        self._networks = itertools.count(0)
        self._stack = contextlib.AsyncExitStack()
        self.hubs: list[NetworkHub] = []

    def device(self, name: str) -> Device:
        """Add a device without a network."""
        made = Device(name)
        self._devices.append(made)
        return made

    def cable(self, first: Device, second: Device) -> Cable:
        """Join two devices by a network of their own."""
        number = next(self._networks)
        interface = f"cable{number}"
        ip("link", "add", interface, "netns", first.namespace, "type", "veth",
           "peer", "name", interface, "netns", second.namespace)  # fmt: skip
        addresses = [f"10.77.{number}.{host}" for host in (1, 2)]
        for device, address in zip((first, second), addresses, strict=True):
            device.ip("address", "add", f"{address}/24", "dev", interface)
            device.ip("link", "set", interface, "up")
        return Cable(first, second, *addresses, interface)

    def gateway(self, device: Device, mesh: str = "") -> NetworkHub:
        """Make a gateway, not started; `mesh` are more lines of that section."""
        hub = self._hub(device)
        tokens = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
        _, hub.token = tokens.create("lab", "admin", time.time())
        _configure(hub, f"gateway: {{admission: open}}\napi: {{port: {API_PORT}}}\n", "[]", mesh)
        return hub

    def worker(
        self,
        device: Device,
        gateways: Sequence[tuple[NetworkHub, str]],
        mesh: str = "",
        listen: str = "0.0.0.0",
        slots: int = 1,
    ) -> NetworkHub:
        """Make a worker, not started, of gateways at addresses such as `10.77.0.1`."""
        hub = self._hub(device)
        trust = ", ".join(f"'{gateway.public_key}'" for gateway, _ in gateways)
        bootnodes = ", ".join(
            f"/ip4/{host}/tcp/{MESH_PORT}/p2p/{gateway.peer_id}" for gateway, host in gateways
        )
        roles = (
            f"worker: {{slots: {slots}, charging_only: false, min_battery: 0}}\n"
            f"signer: {{trust: [{trust}]}}\n"
        )
        _configure(hub, roles, f"[{bootnodes}]", mesh, listen)
        return hub

    async def client(self, gateway: NetworkHub) -> SwarmClient:
        """Return a client of a gateway; its API listens in the gateway's namespace only."""
        assert gateway.device is not None
        port = free_port()
        listener = socket.create_server(("127.0.0.1", port))
        door = Link(listener, gateway.device.way_to("127.0.0.1", API_PORT))
        await self._stack.enter_async_context(door.running())
        gateway.url = f"http://127.0.0.1:{port}"
        return await self._stack.enter_async_context(SwarmClient(gateway.url, gateway.token))

    async def link(
        self, device: Device, to: Device, address: str, quality: Quality = PERFECT
    ) -> Link:
        """Let a device reach another's mesh at its own 127.0.0.1, over a link of some quality."""
        link = Link(device.listener(MESH_PORT), to.way_to(address, MESH_PORT), quality)
        return await self._stack.enter_async_context(link.running())

    async def close(self) -> None:
        """End every hub and remove every device, whatever has failed."""
        try:
            await self._stack.aclose()
        finally:
            await asyncio.to_thread(self._stop)
            for device in self._devices:
                device.remove()

    def _hub(self, device: Device) -> NetworkHub:
        folder = self._folder / device.name
        storage = folder / STORAGE_DIR
        storage.mkdir(parents=True, mode=0o700)
        identity = load_or_create_key(storage / IDENTITY_KEY_FILE, "mesh identity")
        signer = load_or_create_key(storage / SIGNER_KEY_FILE, "signer's key")
        hub = NetworkHub(
            device.name, folder, peer_id_from_seed(identity),
            SigningKey(signer).public_key.hex(), MESH_PORT, device=device,
        )  # fmt: skip
        self.hubs.append(hub)
        return hub

    def _stop(self) -> None:
        running = [hub for hub in self.hubs if hub.process and hub.process.poll() is None]
        for hub in running:
            hub.thaw()
            os.kill(hub.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for hub in running:
            assert hub.process is not None
            try:
                hub.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                hub.kill()


@contextlib.asynccontextmanager
async def open_lab(folder: Path) -> AsyncIterator[Lab]:
    """Have a lab until the block ends."""
    _remove_leftovers()
    lab = Lab(folder)
    try:
        yield lab
    finally:
        await lab.close()


def ip(*command: str) -> str:
    """Run the command ip and return its answer; raises with what it says."""
    done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def namespaces() -> list[str]:
    """Return the labs' namespaces that there are now."""
    return sorted(path.name for path in _NAMESPACES.glob(f"{_PREFIX}-*"))


def _remove_leftovers() -> None:
    for name in namespaces():
        owner = int(name.removeprefix(f"{_PREFIX}-").partition("-")[0])
        if not psutil.pid_exists(owner):
            # Another process may be removing it too.
            with contextlib.suppress(RuntimeError, ProcessLookupError):
                for pid in ip("netns", "pids", name).split():
                    os.kill(int(pid), signal.SIGKILL)
                ip("netns", "del", name)


def _configure(
    hub: NetworkHub, roles: str, bootnodes: str, mesh: str, listen: str = "0.0.0.0"
) -> None:
    switched = "".join(f"  {key}: {value}\n" for key, value in MESH.items())
    (hub.folder / CONFIG_FILE).write_text(
        # What is fetched of runtimes would be on the links that are measured.
        f"hub: {{name: {hub.name}}}\nruntimes: {{python: false, javascript: false}}\n{roles}"
        f"mesh:\n  listen: [/ip4/{listen}/tcp/{MESH_PORT}]\n"
        f"  bootnodes: {bootnodes}\n  mdns: false\n{switched}{mesh}"
    )
