"""How the module of a job is called; pure."""

from swarm_hub.models import features
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.job import Job, JobSpec


def module_call(job: Job) -> ModuleCall:
    """Return how a job's module is called."""
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
    )


def needs_of(spec: JobSpec) -> tuple[str, ...]:
    """Return the features of the call that a worker must not ignore; usually none."""
    requested = {
        features.DETERMINISTIC: spec.deterministic,
        features.FUEL: spec.limits.fuel is not None,
        features.SCRIPT: spec.script is not None,
    }
    return tuple(name for name, is_requested in requested.items() if is_requested)
