"""Telemetry: this device's own measurements, which it gossips, and the latest from others."""

from dataclasses import dataclass
from typing import Final

from swarm_hub.components.mesh import MESH
from swarm_hub.components.telemetry.board import (
    EVENT,
    DeviceMeasured,
    NodeTelemetry,
    TelemetryBoard,
)
from swarm_hub.components.telemetry.commands import subscribe_command
from swarm_hub.core import Hub, HubKey, SimpleReloader
from swarm_hub.helpers import config_validation as cv

__all__ = ["TELEMETRY", "DeviceMeasured", "NodeTelemetry", "TelemetryBoard"]

TELEMETRY: Final = HubKey[TelemetryBoard]("telemetry")


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """`telemetry:`: how often this device measures itself."""

    interval_s: float


CONFIG_SCHEMA = cv.section(
    {cv.Key("interval", default=10, reloadable=True, field="interval_s"): cv.positive_duration},
    TelemetryConfig,
)


async def async_setup(hub: Hub, config: TelemetryConfig) -> bool:
    """Measure and gossip on workers, listen on gateways."""
    board = TelemetryBoard(hub, hub.services[MESH])
    hub.services[TELEMETRY] = board
    hub.endpoints.add_event_type(EVENT)
    hub.endpoints.add_command(subscribe_command(board))

    async def start() -> None:
        board.start(config.interval_s)

    hub.reloaders["telemetry"] = SimpleReloader(lambda new: board.measure_every(new.interval_s))
    hub.on_start(start)
    return True
