"""When a device is left alone: on battery, too warm, or when its battery can't be read."""

from dataclasses import dataclass
from typing import Final

from swarm_hub.components.telemetry import TelemetryBoard
from swarm_hub.components.worker.assignments import Assignments
from swarm_hub.core import Hub
from swarm_hub.models.node import Telemetry

_CHECK_EVERY_S: Final = 2.0
# After a refusal the device rests this long, so that a reading near the edge does not flicker.
_REST_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class PowerPolicyConfig:
    """The owner's conditions; a device without a battery ignores the first two."""

    charging_only: bool
    min_battery: float
    max_temperature: float


def refusal(config: PowerPolicyConfig, telemetry: Telemetry) -> str | None:
    """Return why the device takes no work now, None when it does."""
    if telemetry.has_battery is False:
        return None
    battery = telemetry.battery_percent
    if battery is None:
        rules = config.charging_only or config.min_battery > 0
        return "the battery can't be read" if rules else None
    if config.charging_only and telemetry.charging is not True:
        return "not charging"
    if battery < config.min_battery:
        return f"battery below {config.min_battery:g} %"
    if telemetry.temperature_c is not None and telemetry.temperature_c > config.max_temperature:
        return f"warmer than {config.max_temperature:g} °C"
    return None


class PowerPolicyWatch:
    """Tells `Assignments`, and through it the gateways, when the device is to be left alone."""

    def __init__(
        self,
        hub: Hub,
        assignments: Assignments,
        telemetry: TelemetryBoard,
        config: PowerPolicyConfig,
    ) -> None:
        self._hub = hub
        self._assignments = assignments
        self._telemetry = telemetry
        self._config = config
        self._resting_until = 0.0

    def start(self) -> None:
        """Check every two seconds."""
        self._hub.tasks.every(_CHECK_EVERY_S, self._check, "power policy")

    async def _check(self) -> None:
        if not self._telemetry.own_known.is_set():
            return
        now = self._hub.clock.monotonic()
        reason = refusal(self._config, self._telemetry.own)
        if reason is not None:
            self._resting_until = now + _REST_S
            self._assignments.refuse("device", reason)
        elif now >= self._resting_until:
            self._assignments.refuse("device", None)
