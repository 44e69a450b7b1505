"""How the module of a job is called; pure."""

import hashlib
import hmac
from typing import Final

from swarm_hub.models import features
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.job import Job, JobSpec, Split

_OWNER_CHARS: Final = 32


def owner_key(identity: bytes) -> bytes:
    """Return the key by which a gateway of this secret identity names the owners of its jobs."""
    return hmac.digest(identity, b"swarm-hub/v2/call-owner", hashlib.sha256)


def module_call(job: Job, key: bytes | None) -> ModuleCall:
    """Return how a job's module is called; without `key` it names no owner.

    Workers can tell its owner from others, but not who that is, nor whether an owner of another
    gateway is the same.
    """
    owner = "" if key is None else hmac.digest(key, job.owner.encode(), hashlib.sha256).hex()
    spec, limits = job.spec, job.spec.limits
    return ModuleCall(
        module_sha=job.module_sha,
        abi=spec.abi,
        entry=spec.entry,
        fuel=limits.fuel,
        memory_bytes=limits.memory,
        wall_time_s=limits.wall_time,
        output_bytes=limits.output,
        args=spec.args,
        env=spec.env,
        deterministic=spec.deterministic,
        script=spec.script,
        needs=needs_of(spec),
        owner=owner[:_OWNER_CHARS],
        argument=spec.split is Split.ARGS,
    )


def needs_of(spec: JobSpec) -> tuple[str, ...]:
    """Return the features of the call that a worker must not ignore; usually none."""
    requested = {
        features.DETERMINISTIC: spec.deterministic,
        features.FUEL: spec.limits.fuel is not None,
        features.SCRIPT: spec.script is not None,
        features.ARGUMENT: spec.split is Split.ARGS,
        features.FRAMES: spec.abi == "wasi-frames",
        features.QJS: spec.abi == "qjs",
    }
    return tuple(name for name, is_requested in requested.items() if is_requested)
