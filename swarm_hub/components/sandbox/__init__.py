"""The sandbox: Wasm in child processes that know nothing of the hub."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from swarm_hub.components.sandbox.cache import CACHE_KEY, CACHE_KEY_FILE
from swarm_hub.components.sandbox.call import (
    OK,
    Call,
    CallResult,
    Limits,
    Reuse,
    SandboxError,
    SandboxStats,
    is_wat,
    not_wasm,
)
from swarm_hub.components.sandbox.child import archive, keeping
from swarm_hub.components.sandbox.child.keeping import SEED_BYTES
from swarm_hub.components.sandbox.fence import Fence
from swarm_hub.components.sandbox.launch import wasmtime_directory
from swarm_hub.components.sandbox.native import CompileLimits
from swarm_hub.components.sandbox.pool import Sandbox
from swarm_hub.components.sandbox.report import ModuleReport
from swarm_hub.components.sandbox.request import PREEMPTED, STOPPED
from swarm_hub.core import Hub, HubKey, SimpleReloader, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.call import ModuleCall
from swarm_hub.util.files import refuse_key
from swarm_hub.util.metrics import Metric, counter, gauge

if TYPE_CHECKING:
    from swarm_hub.helpers.obstacles import Obstacle, Site

__all__ = [
    "OK",
    "PREEMPTED",
    "SANDBOX",
    "SEED_BYTES",
    "STOPPED",
    "Call",
    "CallResult",
    "Fence",
    "Limits",
    "ModuleReport",
    "Reuse",
    "Sandbox",
    "SandboxError",
    "SandboxService",
    "SandboxStats",
    "archive",
    "default_slots",
    "is_wat",
    "not_wasm",
]


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """`sandbox:`: the bounds of every shard here; a job may ask for less, never for more."""

    memory_bytes: int
    wall_time_s: float
    output_bytes: int
    module_bytes: int
    compile_time_s: float
    compile_memory_bytes: int
    cache_bytes: int
    reuse: str


@dataclass(frozen=True, slots=True)
class SandboxService:
    """The sandbox with the bounds its owner set."""

    sandbox: Sandbox
    limits: Limits
    module_bytes_max: int
    reuse: Reuse = Reuse.OWNER

    def bounded(self, requested: ModuleCall, gateway: str, job_id: str) -> Call:
        """Return a job's call within this device's own limits, and within its owner's children."""
        own = self.limits
        limits = Limits(
            memory_bytes=min(requested.memory_bytes or own.memory_bytes, own.memory_bytes),
            wall_time_s=min(requested.wall_time_s or own.wall_time_s, own.wall_time_s),
            output_bytes=min(requested.output_bytes or own.output_bytes, own.output_bytes),
            fuel=requested.fuel,
        )
        return Call(
            requested.module_sha, requested.abi, requested.entry, limits, requested.args,
            requested.env, requested.deterministic,
            scope=self._scope(gateway, requested, job_id), argument=requested.argument,
        )  # fmt: skip

    def _scope(self, gateway: str, requested: ModuleCall, job_id: str) -> str | None:
        keeps = keeping.keeps(
            requested.abi, deterministic=requested.deterministic, fuel=requested.fuel
        )
        match self.reuse:
            case Reuse.OWNER if keeps:
                # What a job leaves in its instance is for itself alone.
                return f"{gateway}/{job_id}"
            case Reuse.OWNER:
                # An older gateway names no owners; then all of its jobs are one's.
                return f"{gateway}/{requested.owner}"
            case Reuse.JOB:
                return f"{gateway}/{job_id}"
            case Reuse.NEVER:
                return None


_CACHE_DIR: Final = "wasm-cache"
SANDBOX: Final = HubKey[SandboxService]("sandbox")

# Workers tell gateways memory and wall time when they greet, and jobs are given out by that.
CONFIG_SCHEMA = cv.section(
    {
        cv.Key("memory", default="128MiB", reloadable=False, field="memory_bytes"): cv.size,
        cv.Key(
            "wall_time", default=60, reloadable=False, field="wall_time_s"
        ): cv.positive_duration,
        cv.Key("output", default="16MiB", reloadable=True, field="output_bytes"): cv.size,
        cv.Key("module", default="64MiB", reloadable=True, field="module_bytes"): cv.size,
        cv.Key(
            "compile_time", default=60, reloadable=True, field="compile_time_s"
        ): cv.positive_duration,
        cv.Key(
            "compile_memory", default="768MiB", reloadable=True, field="compile_memory_bytes"
        ): cv.size,
        cv.Key("cache", default="256MiB", reloadable=True, field="cache_bytes"): cv.size,
        cv.Key("reuse", default="owner", reloadable=True): cv.one_of(*Reuse),
    },
    SandboxConfig,
)


def default_slots() -> int:
    """Return how many shards run at once unless configured: half of the cores, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


async def async_setup(hub: Hub, config: SandboxConfig) -> bool:
    """Set up the sandbox; its children start at first use."""
    sandbox = Sandbox(
        cache_dir=hub.storage_path(_CACHE_DIR),
        slots=default_slots(),
        spawn=hub.tasks.spawn,
        module_bytes_max=config.module_bytes,
        compile_time_s=config.compile_time_s,
        compile_memory_bytes=config.compile_memory_bytes,
        cache_bytes_max=config.cache_bytes,
        memory_bytes=config.memory_bytes,
    )

    def serve(config: SandboxConfig) -> None:
        hub.services[SANDBOX] = SandboxService(
            sandbox,
            Limits(config.memory_bytes, config.wall_time_s, config.output_bytes),
            config.module_bytes,
            Reuse(config.reuse),
        )

    def apply(new: SandboxConfig) -> None:
        sandbox.bound(
            CompileLimits(new.module_bytes, new.compile_time_s, new.compile_memory_bytes),
            new.cache_bytes,
        )
        # Who uses it is set up later, and so takes it from there after this.
        serve(new)

    serve(config)
    hub.reloaders["sandbox"] = SimpleReloader(apply)
    hub.endpoints.add_health(lambda: {"sandbox": _fence_shape(sandbox.stats().fence)})
    hub.endpoints.add_metrics(lambda: _metrics(sandbox.stats()))
    hub.on_start(sandbox.start)
    hub.on_stop(StopStage.DISCONNECT, "sandbox", sandbox.stop, timeout_s=4)
    return True


def preflight(site: "Site", _config: SandboxConfig) -> "Iterator[Obstacle]":
    """Yield what would keep children from starting."""
    yield from site.refusal(wasmtime_directory)
    key = site.storage_path(_CACHE_DIR, CACHE_KEY_FILE)
    yield from site.refusal(partial(refuse_key, key, CACHE_KEY))


def _metrics(stats: SandboxStats) -> Iterable[Metric]:
    return (
        gauge("swarm_hub_sandbox_children", "Children of the sandbox.", stats.children),
        gauge("swarm_hub_sandbox_running", "Children that run shards.", stats.running),
        gauge("swarm_hub_sandbox_suspended", "Children whose shards gave way.", stats.suspended),
        gauge("swarm_hub_sandbox_queued", "Calls that wait for a child.", stats.queued),
        gauge("swarm_hub_sandbox_cache_bytes", "Size of the compiled modules.", stats.cache_bytes),
        counter("swarm_hub_sandbox_restarts_total", "Children that were replaced.", stats.restarts),
        counter("swarm_hub_sandbox_compiled_total", "Modules that were compiled.", stats.compiled),
    )


def _fence_shape(fence: Fence | None) -> dict[str, dict[str, str]] | None:
    """Return what the kernel enforces on the children, None before the first one started."""
    if fence is None:
        return None
    return {"in_force": dict(fence.in_force), "absent": dict(fence.absent)}
