"""Hubs that send each other envelopes: what they sent, and anything in their name."""

import os
from collections.abc import Mapping
from typing import Any

from swarm_hub.components.mesh import MESH, decode_messages, encode_message, join_messages
from swarm_hub.components.signer import SIGNER
from swarm_hub.const import SIGNER_KEY_FILE, STORAGE_DIR
from swarm_hub.models import messages
from swarm_hub.models.envelope import Envelope, key_id, seal
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call


class Wire:
    """What a hub sends in envelopes, and a way to send anything in its name."""

    def __init__(self, hub: RunningHub) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self._mesh = hub.hub.services[MESH]
        self._send = self._mesh.send
        self._mesh.send = self._record  # type: ignore[method-assign]

    def _record(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "envelope":
            self.sent.append((peer_id, dict(fields)))
        self._send(peer_id, kind, fields)

    def send(self, peer_id: str, envelope: Envelope | Mapping[str, Any]) -> None:
        """Send an envelope as it is."""
        if isinstance(envelope, Envelope):
            envelope = {"h": envelope.header, "s": envelope.signature, "b": envelope.body}
        self._send(peer_id, "envelope", envelope)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the envelopes that hold a message of this kind."""
        return [
            fields
            for _, fields in self.sent
            if any(found == kind for found, _ in decode_messages(fields["b"]))
        ]

    def count(self, kind: str) -> int:
        """Return how many messages of this kind were sent."""
        return sum(
            found == kind for _, fields in self.sent for found, _ in decode_messages(fields["b"])
        )


def peer_id(hub: RunningHub) -> str:
    return hub.hub.services[MESH].peer_id


def refused(hub: RunningHub, code: str) -> int:
    return hub.hub.services[SIGNER].refused[code]


def key_of(hub: RunningHub) -> SigningKey:
    return SigningKey((hub.folder / STORAGE_DIR / SIGNER_KEY_FILE).read_bytes())


def sealed(
    sender: RunningHub,
    to: RunningHub,
    *,
    jti: bytes | None = None,
    kind: str = messages.RESULT_ACK,
    age_s: float = 0,
    ttl_s: int = 60,
    ids: list[str] | None = None,
    key: SigningKey | None = None,
    kid: str | None = None,
) -> Envelope:
    """Return an envelope as `sender` would sign it."""
    signing = key or key_of(sender)
    return seal(
        signing,
        kid=kid or key_id(key_of(sender).public_key),
        iss=peer_id(sender),
        aud=peer_id(to),
        now=int(sender.clock.time() - age_s),
        ttl_s=ttl_s,
        jti=jti or os.urandom(16),
        body=join_messages([encode_message(kind, {"ids": ids or ["no.such.1"]})]),
    )


async def nodes(gateway: RunningHub) -> dict[str, dict[str, Any]]:
    _, body = await call(gateway, "GET", "/nodes")
    return {node["node_id"]: node for node in body["nodes"]}


async def state_is(gateway: RunningHub, worker: str, state: str) -> None:
    async def now() -> str | None:
        return (await nodes(gateway)).get(worker, {}).get("state")

    await until(now, lambda found: found == state)


async def met(hub: RunningHub, other: str) -> None:
    """Wait until a peer is admitted here."""

    async def peers() -> set[str]:
        return set(hub.hub.services[MESH].peers())

    await until(peers, lambda found: other in found)


async def pair(swarm: Swarm) -> tuple[RunningHub, RunningHub]:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    await state_is(gateway, peer_id(worker), "up")
    return gateway, worker
