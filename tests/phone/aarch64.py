"""The program of script/aarch64: a worker on an emulated machine, and a gateway outside of it.

    python -m tests.phone.aarch64 FOLDER

FOLDER has `kernel/vmlinuz` and `base.cpio`, the machine's files. Prints what was seen; exit code 1
if anything was wrong.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient, UnreachableError
from swarm_hub.components.sandbox import Sandbox
from tests.conftest import EXAMPLES
from tests.helpers.modules import range_module
from tests.helpers.swarms import local_swarm

_ROOT: Final = Path(__file__).parents[2]
# The whole run; what has not come by then is a failure.
_WITHIN_S: Final = 1200.0
_CONSOLE: Final = "console.log"
_CONSOLE_LINES: Final = 30
_FENCE: Final = (
    "no_new_privs (set)", "capabilities (dropped)", "landlock (files, TCP, signals)",
    "seccomp (aarch64)",
)  # fmt: skip
# Where the machine sees the loopback of this one.
_OUTSIDE: Final = "10.0.2.2"
_QEMU: Final = (
    "qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "2", "-m", "2500",
    "-nographic", "-no-reboot", "-append", "console=ttyAMA0 quiet rdinit=/init",
    "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
)  # fmt: skip
_CONFIGURATION: Final = """\
hub: {{name: aarch64}}
worker: {{charging_only: false, min_battery: 0, slots: 1}}
sandbox: {{wall_time: 300}}
signer: {{trust: ['{trust}']}}
mesh:
  listen: [/ip4/0.0.0.0/tcp/4001]
  bootnodes: [{bootnode}]
  mdns: false
  heartbeat: 30
"""
_TEXTS: Final = {
    "primes": (EXAMPLES / "primes" / "primes.wat").read_text(),
    "wordcount": (EXAMPLES / "wordcount" / "wordcount.wat").read_text(),
    "trap": range_module("unreachable"),
    "endless": range_module("(loop $on (br $on)) (i64.const 0)"),
}
_WORDS: Final = b"a b a\nc d a\n" * 2000
# Every item fails; nobody has to find out which.
_FAILS: Final[Mapping[str, Any]] = {"reduce": "sum", "isolate": False}


@dataclass(frozen=True)
class _Job:
    """A job, and what is to come of it: a result, or the code of a failure."""

    module: str
    items: range | bytes
    options: Mapping[str, Any]
    result: object = None
    failure: str = ""


_JOBS: Final = (
    _Job("primes", range(200_000), {"reduce": "sum"}, 17_984),
    _Job("primes", range(2_000_000), {"reduce": "sum"}, 148_933),
    _Job("wordcount", _WORDS, {"split": "lines", "reduce": "json"},
         {"a": 6000, "b": 2000, "c": 2000, "d": 2000}),
    _Job("trap", range(10), _FAILS, failure="trap"),
    _Job("endless", range(10), {**_FAILS, "limits": {"wall_time": 3}}, failure="wall_time"),
    _Job("primes", range(100_000), {**_FAILS, "limits": {"fuel": 1000}}, failure="fuel"),
)  # fmt: skip


async def main(folder: Path) -> int:
    """Run it all; returns the exit code."""
    modules = await with_sandbox(_assembled)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-aarch64-") as scratch:
        swarm = local_swarm(Path(scratch))
        gateway = swarm.start_gateway(
            extra="sla: {platform: fixed, deadline: 600}\n", mesh={"heartbeat": "30"}
        )
        initrd = Path(scratch) / "initrd"
        _pack(folder / "base.cpio", gateway, initrd)
        machine = _booted(folder, initrd)
        try:
            async with (
                asyncio.timeout(_WITHIN_S),
                SwarmClient(gateway.url, gateway.token) as client,
            ):
                wrong = await _watched(client, modules, machine)
        except TimeoutError:
            wrong = [f"it was not done within {_WITHIN_S:.0f} s"]
        finally:
            machine.kill()
            machine.wait()
            swarm.stop()
    console = (folder / _CONSOLE).read_text(errors="replace").splitlines()
    for line in console[-_CONSOLE_LINES:]:
        _say(f"console: {line}")
    if not any(line.startswith("fence: ") and all(w in line for w in _FENCE) for line in console):
        wrong.append(f"the fence is not whole: {_FENCE} are wanted")
    for each in wrong:
        _say(f"WRONG: {each}")
    return 1 if wrong else 0


async def _watched(
    client: SwarmClient, modules: Mapping[str, bytes], machine: "subprocess.Popen[bytes]"
) -> list[str]:
    """Wait for the worker and give it the jobs; returns what was wrong."""
    started = time.monotonic()
    while not await _is_up(client):
        if machine.poll() is not None:
            return [f"the machine ended by itself, exit code {machine.returncode}"]
        await asyncio.sleep(1)
    _say(f"joined after {time.monotonic() - started:.0f} s")
    wrong = []
    for job in _JOBS:
        started = time.monotonic()
        job_id = await client.submit(modules[job.module], job.items, **job.options)
        status = await client.wait(job_id)
        found = status["failures"] if job.failure else status["result"]
        _say(f"{job.module}: {status['state']}, {found}, {time.monotonic() - started:.1f} s")
        right = found == job.result if not job.failure else f": {job.failure}: " in str(found)
        if not right:
            wrong.append(f"{job} gave {status}")
    return wrong


def _booted(folder: Path, initrd: Path) -> "subprocess.Popen[bytes]":
    files = ["-kernel", str(folder / "kernel" / "vmlinuz"), "-initrd", str(initrd)]
    with (folder / _CONSOLE).open("wb") as log:
        return subprocess.Popen([*_QEMU, *files], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def _is_up(client: SwarmClient) -> bool:
    try:
        return any(node["state"] == "up" for node in await client.nodes())
    except UnreachableError:
        return False


async def _assembled(sandbox: Sandbox) -> dict[str, bytes]:
    return {name: await sandbox.assemble(text) for name, text in _TEXTS.items()}


def _pack(base: Path, gateway: LocalHub, initrd: Path) -> None:
    """Write the machine's files: those that are always the same, then those of this run."""
    with tempfile.TemporaryDirectory(prefix="swarm-hub-aarch64-") as scratch:
        extra = Path(scratch)
        shutil.copy(Path(__file__).parent / "machine" / "init.py", extra / "init")
        (extra / "init").chmod(0o755)
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_ROOT / "swarm_hub", extra / "source" / "swarm_hub", ignore=leave)
        (extra / "worker").mkdir()
        bootnode = f"/ip4/{_OUTSIDE}/tcp/{gateway.mesh_port}/p2p/{gateway.peer_id}"
        (extra / "worker" / "configuration.yaml").write_text(
            _CONFIGURATION.format(trust=gateway.public_key, bootnode=bootnode)
        )
        with initrd.open("wb") as written:
            with base.open("rb") as read:
                shutil.copyfileobj(read, written)
            names = "\n".join(str(path.relative_to(extra)) for path in sorted(extra.rglob("*")))
            cpio = ["cpio", "-o", "-H", "newc", "--quiet"]
            subprocess.run(cpio, cwd=extra, input=names.encode(), stdout=written, check=True)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
