"""The sandbox: Wasm in child processes that know nothing of the hub."""

import os
from dataclasses import dataclass
from typing import Final

import voluptuous as vol

from swarm_hub.components.sandbox.call import (
    OK,
    Call,
    Limits,
    Outcome,
    SandboxError,
    SandboxStats,
    not_wasm,
)
from swarm_hub.components.sandbox.child import archive
from swarm_hub.components.sandbox.fence import Fence
from swarm_hub.components.sandbox.pool import Sandbox
from swarm_hub.components.sandbox.report import ModuleReport
from swarm_hub.components.sandbox.request import STOPPED
from swarm_hub.core import Hub, HubKey, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.call import ModuleCall

__all__ = [
    "OK",
    "SANDBOX",
    "STOPPED",
    "Call",
    "Fence",
    "Limits",
    "ModuleReport",
    "Outcome",
    "Sandbox",
    "SandboxError",
    "SandboxService",
    "SandboxStats",
    "archive",
    "default_slots",
    "not_wasm",
]


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """`sandbox:`: the bounds of every shard here; a job may ask for less, never for more."""

    memory: int
    wall_time: float
    output: int
    module: int
    compile_time: float
    compile_memory: int
    cache: int


@dataclass(frozen=True, slots=True)
class SandboxService:
    """The sandbox with the bounds its owner set."""

    sandbox: Sandbox
    limits: Limits
    module_bytes_max: int

    def bounded(self, asked: ModuleCall) -> Call:
        """Return a job's call within this device's own limits."""
        own = self.limits
        limits = Limits(
            memory_bytes=min(asked.memory_bytes or own.memory_bytes, own.memory_bytes),
            wall_time_s=min(asked.wall_time_s or own.wall_time_s, own.wall_time_s),
            output_bytes=min(asked.output_bytes or own.output_bytes, own.output_bytes),
            fuel=asked.fuel,
        )
        return Call(
            asked.module_sha, asked.abi, asked.entry, limits, asked.args, asked.env,
            asked.deterministic,
        )  # fmt: skip


SANDBOX: Final = HubKey[SandboxService]("sandbox")

CONFIG_SCHEMA = cv.section(
    {
        vol.Optional("memory", default="128MiB"): cv.size,
        vol.Optional("wall_time", default=60): cv.positive_duration,
        vol.Optional("output", default="16MiB"): cv.size,
        vol.Optional("module", default="64MiB"): cv.size,
        vol.Optional("compile_time", default=60): cv.positive_duration,
        vol.Optional("compile_memory", default="768MiB"): cv.size,
        vol.Optional("cache", default="256MiB"): cv.size,
    },
    SandboxConfig,
)


def default_slots() -> int:
    """Return how many shards run at once unless configured: half of the cores, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


async def async_setup(hub: Hub, config: SandboxConfig) -> bool:
    """Make the sandbox; its children start at first use."""
    sandbox = Sandbox(
        cache_dir=hub.storage_path("wasm-cache"),
        slots=default_slots(),
        spawn=hub.tasks.spawn,
        module_bytes_max=config.module,
        compile_time_s=config.compile_time,
        compile_memory_bytes=config.compile_memory,
        cache_bytes_max=config.cache,
    )
    hub.services[SANDBOX] = SandboxService(
        sandbox, Limits(config.memory, config.wall_time, config.output), config.module
    )
    hub.endpoints.add_health(lambda: {"sandbox": _fence_shape(sandbox.stats().fence)})
    hub.on_start(sandbox.start)
    hub.on_stop(StopStage.DISCONNECT, "sandbox", sandbox.stop, timeout_s=4)
    return True


def _fence_shape(fence: Fence | None) -> dict[str, dict[str, str]] | None:
    """Return what the kernel holds the children to, None before the first one started."""
    if fence is None:
        return None
    return {"in_force": dict(fence.in_force), "absent": dict(fence.absent)}
