"""The last hour of each node and of the whole swarm, kept in memory for whoever looks later.

It is written when telemetry comes, which it does anyway; a shard costs it nothing.
"""

from typing import Final

from swarm_hub.components.gateway.metrics import JobMetrics
from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.shapes import TelemetryColumn, TelemetryHistory
from swarm_hub.components.telemetry import DeviceMeasured, NodeTelemetry, TelemetryBoard
from swarm_hub.core import Hub
from swarm_hub.models.node import Telemetry
from swarm_hub.util.history import History

STEP_S: Final = 20.0
ROWS: Final = 180
# More than a gateway has nodes; beyond, the one that was silent longest is forgotten.
NODES_MAX: Final = 1000
_MIB: Final = 1024 * 1024
_KEPT_S: Final = STEP_S * ROWS
# Each column with its unit.
_NODE: Final = (
    ("cpu_percent", "%"),
    ("available_memory_mib", "MiB"),
    ("load_1m", ""),
    ("battery_percent", "%"),
    ("temperature_c", "°C"),
    ("rtt_ms", "ms"),
    ("slots", ""),
    ("assignments", ""),
)
_SWARM: Final = (
    ("nodes_up", ""),
    ("nodes_working", ""),
    ("slots", ""),
    ("assignments", ""),
    ("jobs_queued", ""),
    ("jobs_running", ""),
    ("shards_queued", ""),
    ("shards_per_s", "1/s"),
    ("items_per_s", "1/s"),
    ("cpu_percent", "%"),
    ("available_memory_mib", "MiB"),
)


class Histories:
    """Writes down what each node and the swarm did, and tells it."""

    def __init__(
        self, hub: Hub, telemetry: TelemetryBoard, fleet: Fleet, metrics: JobMetrics
    ) -> None:
        self._clock = hub.clock
        self._telemetry = telemetry
        self._fleet = fleet
        self._metrics = metrics
        self._swarm = History(len(_SWARM), ROWS, STEP_S)
        self._nodes: dict[str, History] = {}
        # When the shards and items that are done were counted last, and how many there were.
        self._counted: tuple[float, int, int] | None = None
        hub.bus.listen(NodeTelemetry, self._on_telemetry)
        hub.bus.listen(DeviceMeasured, self._on_measured)

    def swarm(self) -> TelemetryHistory:
        """Return the last hour of the swarm."""
        return _told(None, self._swarm, _SWARM)

    def node(self, node_id: str) -> TelemetryHistory:
        """Return the last hour of a node, without rows if nothing was heard of it."""
        kept = self._nodes.get(node_id)
        return _told(node_id, kept or History(len(_NODE), ROWS, STEP_S), _NODE)

    def _on_telemetry(self, news: NodeTelemetry) -> None:
        # The last in the dictionary is who was heard last.
        kept = self._nodes.pop(news.peer_id, None) or History(len(_NODE), ROWS, STEP_S)
        self._nodes[news.peer_id] = kept
        if len(self._nodes) > NODES_MAX:
            del self._nodes[next(iter(self._nodes))]
        told, at_hand = news.telemetry, self._fleet.at_hand(news.peer_id)
        kept.put(
            self._clock.steady(),
            (
                *_measured(told), told.load_1m, told.battery_percent, told.temperature_c,
                at_hand.rtt_ms, at_hand.slots, at_hand.assignments,
            ),
        )  # fmt: skip

    def _on_measured(self, _news: DeviceMeasured) -> None:
        now = self._clock.steady()
        self._forget_the_gone(now)
        fleet, jobs = self._fleet.activity(), self._metrics.unfinished()
        shards_per_s = items_per_s = None
        shards, items = self._metrics.done()
        if self._counted is not None and now > self._counted[0]:
            since_s = now - self._counted[0]
            shards_per_s = (shards - self._counted[1]) / since_s
            items_per_s = (items - self._counted[2]) / since_s
        self._counted = now, shards, items
        self._swarm.put(
            now,
            (
                fleet.up, fleet.working, fleet.slots, fleet.assignments, jobs.queued, jobs.running,
                jobs.shards_queued, shards_per_s, items_per_s, *_measured(self._telemetry.own),
            ),
        )  # fmt: skip

    def _forget_the_gone(self, now: float) -> None:
        for node_id, kept in tuple(self._nodes.items()):
            if now - kept.newest_at < _KEPT_S:
                break
            del self._nodes[node_id]


def _measured(told: Telemetry) -> tuple[float | None, float | None]:
    memory_bytes = told.available_memory_bytes
    return told.cpu_percent, None if memory_bytes is None else memory_bytes / _MIB


def _told(
    node_id: str | None, kept: History, columns: tuple[tuple[str, str], ...]
) -> TelemetryHistory:
    found: list[TelemetryColumn] = [
        {"name": name, "unit": unit, "values": values}
        for (name, unit), values in zip(columns, kept.columns(), strict=True)
    ]
    return {"node_id": node_id, "step_s": kept.step_s, "t": kept.times(), "columns": found}
