"""The fence's list: what native code in a child of a real hub tries to do outside is refused."""

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.sandbox import SANDBOX
from tests.conftest import Swarm
from tests.helpers.rest import finished, submit
from tests.hostile import fence_probe

PROBE = Path(fence_probe.__file__)
SETUP = """
from pathlib import Path

from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({}, dict)


async def async_setup(hub, config):
    await hub.services[SANDBOX].sandbox.add_abi(Path(__file__).parent / "abi_probe.py")
    return True
"""
# Code of the child's own stands for what a defect in the compiler would let a module do.
ABI = """

class _Probe:
    name = "probe"
    rank = 1
    wants = "anything"
    uses_files = False

    def entries(self, shape):
        return ("anything",)

    def run(self, session, body):
        return report().encode()


ABI = _Probe()
"""
NUMBERS = dict.fromkeys(fence_probe.ATTEMPTS, errno.EPERM) | {
    # What it is asked lies where a filter can't look.
    "openat2": errno.ENOSYS,
}


def abi() -> str:
    return PROBE.read_text().partition("\nif __name__")[0] + ABI


def without_a_fence(folder: Path) -> tuple[dict[str, int], list[int]]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROBE], capture_output=True, check=True, cwd=folder, timeout=60
    )
    attempts, capabilities = json.loads(done.stdout)
    return attempts, capabilities


async def in_a_child(swarm: Swarm, folder: Path) -> tuple[dict[str, int], list[int], Any]:
    for name in ("gateway", "worker"):
        home = folder / name / "custom_components" / "probe"
        home.mkdir(parents=True)
        manifest = {
            "domain": "probe", "name": "Probe", "documentation": "none", "version": "1.0.0",
            "dependencies": ["sandbox"],
        }  # fmt: skip
        (home / "manifest.json").write_text(json.dumps(manifest))
        (home / "__init__.py").write_text(SETUP)
        (home / "abi_probe.py").write_text(abi())
    gateway = await swarm.gateway(extra="probe:\n")
    worker = await swarm.worker("worker", extra="probe:\n")
    wasm = await gateway.hub.services[SANDBOX].sandbox.assemble("(module)")
    spec = {"abi": "probe", "reduce": "list", "shard_size": 1, "split": "lines"}
    _, body = await submit(gateway, wasm, b"1\n", spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "completed", status
    (said,) = status["result"]
    attempts, capabilities = json.loads(said) if isinstance(said, str) else said
    return attempts, capabilities, worker.hub.services[SANDBOX].sandbox.stats()


async def test_what_a_taken_over_child_tries_outside_is_refused(
    swarm: Swarm, tmp_path: Path
) -> None:
    outside, held = await asyncio.to_thread(without_a_fence, tmp_path)
    # Each attempt works where there is no fence, so that a refusal is the fence's.
    missing = {"utime", "utimes", "futimesat"} if os.uname().machine == "aarch64" else set()
    assert {name: number for name, number in outside.items() if number} == dict.fromkeys(
        missing, errno.ENOSYS
    )
    inside, left, stats = await in_a_child(swarm, tmp_path)
    parts = {name for name, _ in stats.fence.in_force}
    if "seccomp" not in parts:
        pytest.skip("this machine has no filter of system calls")
    assert {**inside, **dict.fromkeys(missing, 0)} == {**NUMBERS, **dict.fromkeys(missing, 0)}
    assert ("capabilities", "dropped" if any(held[:3]) else "none held") in stats.fence.in_force
    assert left[:3] == [0, 0, 0]
    assert left[4] == 0
    if any(held[:3]):
        assert left[3] == 0
