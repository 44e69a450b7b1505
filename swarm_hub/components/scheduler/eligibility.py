"""Which nodes may run a job's shards, and in words why the others may not; pure."""

from collections import Counter
from collections.abc import Iterable

from swarm_hub.components.scheduler.entries import JobPlan
from swarm_hub.components.scheduler.nodes import NodeEntry
from swarm_hub.models import features
from swarm_hub.models.job import Constraints
from swarm_hub.models.node import PARTLY_READY, READY
from swarm_hub.util.units import format_size


def unfit(node: NodeEntry, plan: JobPlan, now: float) -> str | None:
    """Return why a node may not run a job's shards, None when it may.

    A value that a node does not report is no reason to refuse it: unknown is not unhealthy.
    """
    if node.faults and (faults := node.quarantined(plan.program, now)) is not None:
        return f"failed this module too often ({faults.text})"
    limits = node.change.limits
    if limits is not None and plan.job_id not in limits.job_ids:
        return limits.reason
    if plan.needs and (missing := node.lacking(plan.needs)):
        return f"without the feature {', '.join(sorted(missing))}"
    if plan.runtime is not None and (reason := _unready(node, plan)) is not None:
        return reason
    most_s = node.change.wall_time_s
    if most_s is not None and most_s < plan.wall_s:
        return f"lets no shard run for {plan.wall_s:g} s (sandbox: wall_time)"
    if plan.constraints is None:
        return None
    return _lacks(node, plan.constraints)


def why(nodes: Iterable[NodeEntry], plan: JobPlan, now: float) -> str:
    """Say why a job makes no progress: `3 nodes: 2 below 30 % battery, 1 lacks 512 MiB`."""
    reasons: Counter[str] = Counter()
    for node in nodes:
        reasons[_reason(node, plan, now)] += 1
    n_nodes = sum(reasons.values())
    if not n_nodes:
        return "no worker is connected"
    told = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=_by_number))
    return f"{n_nodes} {'node' if n_nodes == 1 else 'nodes'}: {told}"


def _reason(node: NodeEntry, plan: JobPlan, now: float) -> str:
    if node.change.refuses:
        return node.change.refuses
    lacking = unfit(node, plan, now)
    if lacking is not None:
        return lacking
    if now < node.paused_until:
        return "gave work back a moment ago"
    return "free" if node.room(plan.program, now, alone=False) else "busy"


def _unready(node: NodeEntry, plan: JobPlan) -> str | None:
    module_sha = plan.program.partition(".")[0]
    said = (node.change.telemetry.runtimes or {}).get(module_sha)
    if said == READY or (said == PARTLY_READY and features.DETERMINISTIC not in plan.needs):
        return None
    return said or f"has not prepared {plan.runtime} yet"


def _lacks(node: NodeEntry, wanted: Constraints) -> str | None:
    change, told = node.change, node.change.telemetry
    if wanted.memory is not None:
        gives = [each for each in (change.memory_bytes, told.available_memory_bytes) if each]
        if any(each < wanted.memory for each in gives):
            return f"lacks {format_size(wanted.memory)} of memory"
    if missing := [pair for pair in wanted.node_labels if pair not in change.labels]:
        name, text = missing[0]
        return f"without the label {name}: {text}"
    if _is_below(wanted.max_temperature, told.temperature_c):
        return f"warmer than {wanted.max_temperature:g} °C"
    if told.metered and not wanted.metered:
        return "on a metered network"
    if told.has_battery is False:
        return None
    if wanted.charging and told.charging is False:
        return "not charging"
    if _is_below(told.battery_percent, wanted.min_battery):
        return f"below {wanted.min_battery:g} % battery"
    return None


def _is_below(value: float | None, bound: float | None) -> bool:
    """Whether both values are known and the first is smaller."""
    return value is not None and bound is not None and value < bound


def _by_number(reason: tuple[str, int]) -> tuple[int, str]:
    return (-reason[1], reason[0])
