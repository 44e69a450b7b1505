"""The gateways that this worker was told of by one that it obeys: it joins them by itself.

Each is obeyed as long as the key of `signer: trust` from which the word came is; one that has not
been named for a week is forgotten.
"""

import dataclasses
import ipaddress
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_hub.components.mesh import Mesh, hearsay_address
from swarm_hub.components.signer import Batch, EnvelopeChannel
from swarm_hub.core import Hub
from swarm_hub.models import messages
from swarm_hub.models.messages import GATEWAYS_MAX, GatewayPlace
from swarm_hub.storage.queries import meta

_LOGGER = logging.getLogger(__name__)

_FORGOTTEN_AFTER_S: Final = 7 * 86_400.0
# What is only named again is not written each time.
_KEPT_EVERY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class _Known:
    """A gateway, whose word it is, and when it was last named."""

    place: GatewayPlace
    root: bytes
    named_at: float

    def to_plain(self) -> dict[str, Any]:
        return {
            "peer_id": self.place.peer_id,
            "key": self.place.key.hex(),
            "addresses": list(self.place.addresses),
            "root": self.root.hex(),
            "named_at": self.named_at,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        place = GatewayPlace(
            plain["peer_id"], bytes.fromhex(plain["key"]), tuple(plain["addresses"])
        )
        return cls(place, bytes.fromhex(plain["root"]), plain["named_at"])


class KnownGateways:
    """Joins what a gateway names; `trust_changed` is called when others are obeyed."""

    def __init__(
        self, hub: Hub, mesh: Mesh, channel: EnvelopeChannel, trust_changed: Callable[[], None]
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._trust_changed = trust_changed
        # In the order in which they were named, the longest ago first.
        self._known: dict[str, _Known] = {}

    def load(self, kept: Iterable[dict[str, Any]]) -> None:
        """Take up those of the last life; call it before the mesh starts."""
        now = self._hub.clock.time()
        for plain in kept:
            known = _Known.from_plain(plain)
            if now - known.named_at < _FORGOTTEN_AFTER_S:
                self._known[known.place.peer_id] = known
        self._follow()

    def hear(self, batch: Batch) -> None:
        """Take what a gateway names."""
        if batch.trusted and not batch.replayed:
            for places in batch.read(messages.GATEWAYS, messages.read_gateways):
                if self._take(batch, places):
                    plain = [each.to_plain() for each in self._known.values()]
                    batch.writes.append(meta.put_known_gateways(plain))
        self._hub.store.note(batch.writes)

    def _take(self, batch: Batch, places: list[GatewayPlace]) -> bool:
        """Join what is new; returns whether there is something to keep."""
        now, root = self._hub.clock.time(), self._channel.root_of(batch.public_key)
        loopback_too = _is_here(self._mesh.host_of(batch.peer_id))
        before = dict(self._known)
        for told in places:
            if told.peer_id == self._mesh.peer_id:
                continue
            addresses = (
                hearsay_address(each, told.peer_id, loopback_too=loopback_too)
                for each in told.addresses
            )
            usable = tuple(str(each) for each in addresses if each is not None)
            if not usable:
                continue
            place = dataclasses.replace(told, addresses=usable)
            if self._known.pop(told.peer_id, None) is None:
                _LOGGER.info("Told of gateway %s at %s", told.peer_id, ", ".join(usable))
            self._known[told.peer_id] = _Known(place, root, now)
        for peer_id in [
            peer_id
            for number, (peer_id, each) in enumerate(reversed(self._known.items()))
            if number >= GATEWAYS_MAX or now - each.named_at >= _FORGOTTEN_AFTER_S
        ]:
            del self._known[peer_id]
        if {k: (v.place, v.root) for k, v in before.items()} != {
            k: (v.place, v.root) for k, v in self._known.items()
        }:
            self._follow()
            self._trust_changed()
            return True
        return any(now - each.named_at >= _KEPT_EVERY_S for each in before.values())

    def _follow(self) -> None:
        self._channel.introduce({each.place.key: each.root for each in self._known.values()})
        self._mesh.dial_also(
            [address for each in self._known.values() for address in each.place.addresses]
        )


def _is_here(host: str | None) -> bool:
    """Whether a peer is on this device, so that its loopback addresses lead to others as well."""
    return host is None or ipaddress.ip_address(host).is_loopback
