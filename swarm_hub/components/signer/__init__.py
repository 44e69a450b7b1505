"""The signer: who says a thing, to whom, until when, and only once."""

from dataclasses import dataclass
from typing import Final

import voluptuous as vol
from nacl.signing import SigningKey

from swarm_hub.components.mesh import MESH, TICKET, Mesh
from swarm_hub.components.signer.greeting import SignedGreeter
from swarm_hub.components.signer.post import Batch, SignedPost
from swarm_hub.components.signer.replay import ReplayCache
from swarm_hub.const import SIGNER_KEY_FILE
from swarm_hub.core import Hub, HubKey, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.envelope import TTL_MAX_S
from swarm_hub.util.files import load_or_create_key

__all__ = ["SIGNER", "Batch", "SignedPost"]

SIGNER: Final = HubKey[SignedPost]("signer")


@dataclass(frozen=True, slots=True)
class SignerConfig:
    """`signer:`: whom this hub obeys and how long its envelopes are valid."""

    trust: tuple[bytes, ...]
    ttl: int


CONFIG_SCHEMA = cv.section(
    {
        vol.Optional("trust", default=list): cv.sequence(cv.public_key),
        vol.Optional("ttl", default=60): cv.integer(1, TTL_MAX_S),
    },
    SignerConfig,
)


async def async_setup(hub: Hub, config: SignerConfig) -> bool:
    """Load the key, the replay cache and the pinned keys; sign and check from here on."""
    key = SigningKey(load_or_create_key(hub.storage_path(SIGNER_KEY_FILE), "signer's key"))
    mesh = hub.services[MESH]
    replay = await ReplayCache.load(hub)
    greeter = await SignedGreeter.load(hub, mesh, key, config.trust)
    mesh.greeter = greeter
    post = hub.services[SIGNER] = SignedPost(hub, mesh, key, greeter, replay, config.ttl)
    _carry_tickets(hub, mesh, post)
    hub.tasks.every(60, replay.forget_expired, "replay cache")
    hub.on_stop(StopStage.DRAIN, "signer", post.flush)
    return True


def _carry_tickets(hub: Hub, mesh: Mesh, post: SignedPost) -> None:
    """Let the mesh hand out tickets for its bulk plane in signed envelopes."""

    def received(batch: Batch) -> None:
        hub.store.note(batch.writes)
        if batch.trusted and not batch.replayed:
            for fields in batch.of(TICKET):
                mesh.exchange.on_ticket(batch.peer_id, fields)

    mesh.exchange.post_signed = post.post
    post.on((TICKET,), received)
