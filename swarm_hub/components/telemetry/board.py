"""The newest telemetry of each node, and the loop that publishes this device's own."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from swarm_hub.components.mesh import Mesh, PeerDown, PeerUp
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.core import Hub
from swarm_hub.models.event import EphemeralEvent
from swarm_hub.models.node import Telemetry
from swarm_hub.util.strict_cbor import parse_cbor, to_cbor

_LOGGER = logging.getLogger(__name__)

TOPIC: Final = "swarm-hub/telemetry"
EVENT: Final = "telemetry"
_PAYLOAD_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class NodeTelemetry:
    """New telemetry of a connected node (bus event)."""

    peer_id: str
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class DeviceMeasured:
    """This device measured itself (bus event); `own` has the values."""


class TelemetryBoard:
    """Keeps the newest telemetry of this device and of every connected node."""

    def __init__(self, hub: Hub, mesh: Mesh) -> None:
        self._hub = hub
        self._mesh = mesh
        self._probe = Probe(hub.clock.boottime)
        self._newest: dict[str, Telemetry] = {}
        # When it came, by the clock on the wall.
        self._heard_at: dict[str, float] = {}
        # Logged once per connection: no single peer may fill the log.
        self._logged: set[str] = set()
        # What the owner says about the network, which no measurement tells as well.
        self._metered: bool | None = None
        # How many shards its worker runs at once for now, and why not more.
        self._slots: tuple[int | None, str | None] = (None, None)
        # What it says of the runtimes that its gateways offer.
        self._runtimes: Mapping[str, str] | None = None
        self._interval_s = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self.own = Telemetry()
        self.own_known = asyncio.Event()
        # A topic must be subscribed before the mesh starts; only gateways read it.
        mesh.on_gossip(TOPIC, self._on_gossip)
        hub.bus.listen(PeerDown, self._on_peer_down)
        hub.bus.listen(PeerUp, self._on_peer_up)

    def start(self, interval_s: float) -> None:
        """Measure now and every `interval_s` seconds."""
        self._hub.tasks.supervise(self._begin, "first telemetry")
        self.measure_every(interval_s)

    def measure_every(self, interval_s: float) -> None:
        """Measure that often from now on."""
        if interval_s == self._interval_s:
            return
        self._interval_s = interval_s
        if self._measuring is not None:
            self._measuring.cancel()
        self._measuring = self._hub.tasks.every(interval_s, self._measure_again, "telemetry")

    def declare_metered(self, metered: bool | None) -> None:
        """Take the owner's word for whether this device's network is metered, None: measure it."""
        self._metered = metered

    def offer_slots(self, slots: int) -> None:
        """Note how many shards gateways are told of when they greet."""
        self._slots = slots, None

    async def declare_slots(self, slots: int, slower: str | None) -> None:
        """Tell gateways how many shards this worker runs at once from now on, and why not more."""
        if self._slots == (slots, slower):
            return
        self._slots = slots, slower
        self.own = replace(self.own, slots=slots, slower=slower)
        await self._publish()

    async def declare_runtimes(self, runtimes: Mapping[str, str]) -> None:
        """Tell gateways how far this worker is with each runtime, by hash."""
        self._runtimes = runtimes
        self.own = replace(self.own, runtimes=runtimes)
        await self._publish()

    def of(self, peer_id: str) -> Telemetry:
        """Return the newest telemetry of a node; every value unknown if none has arrived yet."""
        return self._newest.get(peer_id, Telemetry())

    def heard(self) -> list[tuple[float, EphemeralEvent]]:
        """Return the event of each connected node's newest telemetry, and when it came."""
        return [
            (self._heard_at[peer_id], _event(peer_id, telemetry))
            for peer_id, telemetry in self._newest.items()
        ]

    async def _begin(self) -> None:
        # A phone that was not asked yet is not one whose battery can't be read.
        await self._ask()
        await self._measure()

    async def _measure_again(self) -> None:
        if self.own_known.is_set():
            # The rest does not wait for slow programs.
            self._hub.tasks.spawn(self._ask_and_measure(), "ask the device")
            await self._measure()

    async def _ask(self) -> bool:
        """Have slow programs asked, of which only a worker needs to know."""
        return "worker" in self._mesh.capabilities and await self._probe.ask()

    async def _ask_and_measure(self) -> None:
        if await self._ask():
            await self._measure()

    async def _measure(self) -> None:
        found = await asyncio.to_thread(self._probe.measure)
        metered = found.metered if self._metered is None else self._metered
        slots, slower = self._slots
        self.own = replace(
            found, metered=metered, slots=slots, slower=slower, runtimes=self._runtimes
        )
        self.own_known.set()
        self._hub.bus.fire(DeviceMeasured())
        await self._publish()

    async def _publish(self) -> None:
        if "worker" in self._mesh.capabilities:
            await self._mesh.publish(TOPIC, to_cbor(self.own.to_wire()))

    def _on_peer_up(self, up: PeerUp) -> None:
        # A new gateway should not wait an interval for the first measurement.
        if "gateway" in up.hello.capabilities and self.own_known.is_set():
            payload = to_cbor(self.own.to_wire())
            self._hub.tasks.spawn(self._mesh.publish(TOPIC, payload), "telemetry hello")

    def _on_peer_down(self, down: PeerDown) -> None:
        self._newest.pop(down.peer_id, None)
        self._heard_at.pop(down.peer_id, None)
        self._logged.discard(down.peer_id)

    def _on_gossip(self, peer_id: str, payload: bytes) -> None:
        # The sender is the subject: the payload names nobody, so nobody can speak for others.
        if not self._mesh.is_admitted(peer_id) or len(payload) > _PAYLOAD_MAX_BYTES:
            return
        try:
            telemetry = Telemetry.from_wire(parse_cbor(payload))
        except ValueError as error:
            if peer_id not in self._logged:
                self._logged.add(peer_id)
                _LOGGER.warning("%s gossiped unreadable telemetry: %s", peer_id, error)
            return
        self._newest[peer_id] = telemetry
        self._heard_at[peer_id] = self._hub.clock.time()
        self._hub.bus.fire(NodeTelemetry(peer_id, telemetry))
        self._hub.bus.fire(_event(peer_id, telemetry))


def _event(peer_id: str, telemetry: Telemetry) -> EphemeralEvent:
    return EphemeralEvent(EVENT, {"node_id": peer_id, **telemetry.to_wire()})
