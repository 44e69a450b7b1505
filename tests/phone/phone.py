"""A phone: a worker in the jail, with Termux:API and without what Termux lacks."""

import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient, UnreachableError
from tests.helpers.lacking import OF_GATEWAYS, OPTIONAL
from tests.helpers.signals import signal_all
from tests.phone import jail

MEMORY_BYTES: Final = 120 * 2**20
# The least that does where there is no control group: a limit for each process, not for both.
DATA_MIB: Final = 150
# Android's apps have the users from here on. Each phone has its own, as tasks are counted by user.
_FIRST_UID: Final = 10_000
_UIDS: Final = 10_000
_COMMAND_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 10.0
_CONFIGURATION: Final = """\
hub: {{name: phone}}
worker: {{slots: 1{worker}}}
mesh:
  listen: [/ip4/127.0.0.1/tcp/0]
  mdns: false
{mesh}"""
# What Termux:API prints on a phone that is plugged in.
FULL: Final = {
    "health": "GOOD", "percentage": 100, "plugged": "PLUGGED_AC", "status": "FULL",
    "temperature": 25.0, "current": 0,
}  # fmt: skip
# The psutil of the jail refuses by itself, and to upgrade its database a worker needs Alembic.
LACKING: Final = sorted({*OF_GATEWAYS, *OPTIONAL} - {"alembic", "psutil"})
_PROGRAMS: Final = {
    # Its answer is a file, so that a test can change it.
    "termux-battery-status": 'cat "$PREFIX/battery"; echo >> "$PREFIX/asked"',
    # The script of a venv names its Python by the path it was made at.
    "swarm-hub": 'exec python -m swarm_hub "$@"',
    "termux-wake-lock": "exit 0",
    "termux-wake-unlock": "exit 0",
    "getprop": 'case "$1" in *.sdk) echo 34 ;; *.release) echo 14 ;; esac',
}


def missing() -> str | None:
    """Return why there can be no phone here, None if there can."""
    if os.geteuid() != 0:
        return "the jail of a phone needs root"
    if platform.machine() not in jail.MACHINES:
        return f"the jail of a phone knows no system calls of {platform.machine()}"
    return None


class Phone:
    """A worker that Android treats as it treats an app; its folder is that of the jail."""

    def __init__(self, folder: Path, group: Path | None) -> None:
        self._folder = folder
        self._group = group
        self._uid = _FIRST_UID + os.getpid() % _UIDS
        self._process: subprocess.Popen[bytes] | None = None
        self._files = folder / "files"
        self.home = self._files / "home"
        # Where a hub is that is told nothing else.
        self.config_dir = self.home / ".config" / "swarm_hub"
        (folder / "root").mkdir(parents=True)
        for made in (self.config_dir, self._files / "usr" / "bin", self._files / "usr" / "tmp"):
            made.mkdir(parents=True)
        for name, body in _PROGRAMS.items():
            program = self._files / "usr" / "bin" / name
            program.write_text(f"#!/bin/sh\n{body}\n")
            program.chmod(0o755)
        self.show_battery(json.dumps(FULL))
        # A file of root's would be one that the app can't change.
        for path in (self._files, *self._files.rglob("*")):
            os.chown(path, self._uid, self._uid)

    @property
    def pid(self) -> int:
        """The process id of its hub."""
        assert self._process is not None
        return self._process.pid

    @property
    def database(self) -> Path:
        """The file of its store."""
        return self.config_dir / "swarm_hub.db"

    def show_battery(self, answer: str) -> None:
        """Have Termux:API answer this from now on."""
        written = self._files / "usr" / "battery.new"
        written.write_text(answer)
        written.replace(self._files / "usr" / "battery")

    def asked(self) -> int:
        """Return how often Termux:API was asked."""
        path = self._files / "usr" / "asked"
        return path.stat().st_size if path.exists() else 0

    async def join(
        self,
        gateway: LocalHub,
        client: SwarmClient,
        *,
        worker: str = "",
        mesh: str = "",
        more: str = "",
    ) -> None:
        """Set it up as its owner does; `worker` and `mesh` are more of these sections."""
        worker = f", {worker}" if worker else ""
        path = self.config_dir / "configuration.yaml"
        path.write_text(_CONFIGURATION.format(worker=worker, mesh=mesh) + more)
        os.chown(path, self._uid, self._uid)
        address = f"/ip4/127.0.0.1/tcp/{gateway.mesh_port}"
        invitation = await client.invite(expires_s=3600, addresses=[address])
        joined = await self.run("swarm-hub", "join", invitation["link"])
        assert joined.returncode == 0, joined.stderr

    async def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the jail and return what it said."""
        return await asyncio.to_thread(
            subprocess.run, self._jailed(command), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=_COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Start its hub."""
        with (self._folder / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._jailed(["swarm-hub", "run"]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill all of it, the sandbox too, as Android does."""
        signal_all(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """Stop all of it, as Android does with an app that it caches."""
        signal_all(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        signal_all(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it in order if it runs."""
        if self._process is None or self._process.poll() is not None:
            return
        self.thaw()
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """Return what its hub has logged."""
        path = self._folder / "hub.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _jailed(self, command: Sequence[str]) -> list[str]:
        memory = ["--cgroup", str(self._group)] if self._group else ["--data", str(DATA_MIB)]
        venv = os.environ.get("SWARM_HUB_PHONE_VENV", sys.prefix)
        return [
            sys.executable, "-I", "-S", jail.__file__, str(self._folder),
            "--uid", str(self._uid), "--venv", venv, *memory,
            "--without", ",".join(LACKING), "--", *command,
        ]  # fmt: skip


async def node(client: SwarmClient) -> dict[str, Any]:
    """Return what the gateway knows of the one phone; nothing before it came."""
    nodes = await client.nodes()
    return nodes[0] if nodes else {}


async def is_up(client: SwarmClient) -> bool:
    """Whether the phone is connected."""
    return (await node(client)).get("state") == "up"


async def answers(client: SwarmClient) -> bool:
    """Whether the gateway is there."""
    try:
        return (await client.health())["state"] == "running"
    except UnreachableError:
        return False
