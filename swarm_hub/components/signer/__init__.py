"""The signer: proves who says what to whom, until when, and that it is heard only once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from swarm_hub.components.mesh import EXPRESS_ASK, EXPRESS_OFFER, MESH, TICKET, Mesh
from swarm_hub.components.signer.admission import Admission, token_sha
from swarm_hub.components.signer.envelope_channel import Batch, EnvelopeChannel
from swarm_hub.components.signer.greeting import SignedGreeter, signed_hello
from swarm_hub.components.signer.keybook import KeyBook
from swarm_hub.components.signer.keys import KeyWatch
from swarm_hub.components.signer.replay import ReplayCache
from swarm_hub.components.signer.revocations import Revocations
from swarm_hub.const import IDENTITY_KEY_FILE, JOIN_TOKENS_FILE
from swarm_hub.core import Hub, HubKey, SimpleReloader, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.join_tokens import read_join_tokens
from swarm_hub.helpers.signing_keys import KeyFiles
from swarm_hub.models.envelope import TTL_MAX_S
from swarm_hub.models.peer_id import certify
from swarm_hub.models.rotation import read_kept
from swarm_hub.storage.queries import admission, keys, nodes
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key

if TYPE_CHECKING:
    from swarm_hub.helpers.obstacles import Obstacle, Site
    from swarm_hub.repairs import Repair

__all__ = [
    "ADMISSION",
    "SIGNER",
    "Admission",
    "Batch",
    "EnvelopeChannel",
    "signed_hello",
    "token_sha",
]

SIGNER: Final = HubKey[EnvelopeChannel]("signer")
ADMISSION: Final = HubKey[Admission]("admission")


@dataclass(frozen=True, slots=True)
class SignerConfig:
    """`signer:`: whom this hub obeys and how long its envelopes are valid."""

    trust: tuple[bytes, ...]
    ttl_s: int


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("trust", default=list, reloadable=True): cv.sequence(cv.public_key),
        cv.Key("ttl", default=60, reloadable=True, field="ttl_s"): cv.integer(1, TTL_MAX_S),
    },
    SignerConfig,
)


async def async_setup(hub: Hub, config: SignerConfig) -> bool:
    """Load the keys of this hub and those it knows; sign and check from then on."""
    mesh, files = hub.services[MESH], KeyFiles(hub.storage_path())
    own = files.own(hub.clock.time())
    replay = await ReplayCache.load(hub)
    revocations = await Revocations.load(hub)
    # A hub that is both gateway and worker obeys itself.
    trust = (*config.trust, own.public_key)
    book = await _key_book(hub, trust, revocations)
    admits = await Admission.load(hub)
    tokens = read_join_tokens(hub.storage_path(JOIN_TOKENS_FILE))
    seed = load_or_create_key(hub.storage_path(IDENTITY_KEY_FILE), "mesh identity")
    certify_ours = partial(certify, SigningKey(seed))
    greeter = SignedGreeter(hub, mesh, own, book, admits, tokens, certify_ours)
    channel = EnvelopeChannel(hub, mesh, own, greeter, book, revocations, replay, config.ttl_s)
    watch = KeyWatch(hub, mesh, channel, book, revocations, files, own)
    # A key revoked while this hub was stopped is refused from the first hello on.
    await watch.look()
    mesh.sign_with(greeter, channel.send, lambda: channel.public_key, channel.send_alone)
    hub.services[SIGNER], hub.services[ADMISSION] = channel, admits
    _carry_tickets(hub, mesh, channel)
    _carry_offers(mesh, channel)

    def repairs() -> "Iterable[Repair]":
        from swarm_hub.components.signer.repairs import of_keys

        return of_keys(book, revocations, channel.kid)

    hub.repair_sources.append(repairs)
    hub.tasks.every(60, replay.forget_expired, "replay cache")
    watch.start()
    hub.control.add("reload_keys", watch.reload)

    def apply(new: SignerConfig) -> None:
        # Its own key may have been rotated since the start.
        book.trust((*new.trust, channel.public_key))
        channel.sign_for(new.ttl_s)

    hub.reloaders["signer"] = SimpleReloader(apply)
    hub.on_stop(StopStage.DRAIN, "signer", channel.flush)
    return True


def preflight(site: "Site", _config: SignerConfig) -> "Iterator[Obstacle]":
    """Yield what is wrong with the files of the keys."""
    yield from site.refusal(KeyFiles(site.storage_path()).refuse)
    yield from site.refusal(partial(read_join_tokens, site.storage_path(JOIN_TOKENS_FILE)))


async def _key_book(hub: Hub, trust: tuple[bytes, ...], revocations: Revocations) -> KeyBook:
    """Return what is known about others' keys: pinned before the last stop, or followed since."""
    pinned = {
        node.peer_id: node.public_key
        for node in await hub.store.read(nodes.all_nodes)
        if node.public_key is not None and node.admission != admission.PENDING
    }
    followed = [read_kept(*each) for each in await hub.store.read(keys.rotations)]
    return KeyBook(trust, pinned, followed, revocations, hub.clock.time)


def _carry_tickets(hub: Hub, mesh: Mesh, channel: EnvelopeChannel) -> None:
    """Have the mesh use the bulk-plane tickets that come in signed envelopes."""

    def received(batch: Batch) -> None:
        hub.store.note(batch.writes)
        if batch.trusted and not batch.replayed:
            batch.read(TICKET, lambda fields: mesh.exchange.on_ticket(batch.peer_id, fields))

    channel.on((TICKET,), received)


def _carry_offers(mesh: Mesh, channel: EnvelopeChannel) -> None:
    """Have the mesh agree on express connections by messages that come alone in an envelope.

    They are bound to two runs and to a session, so that no row has to keep them from being said
    again to a later run.
    """

    def received(batch: Batch) -> None:
        if batch.replayed or batch.receipt is None or len(batch.messages) != 1:
            return
        peer_id, key, header = batch.peer_id, batch.public_key, batch.receipt.envelope.header
        batch.read(EXPRESS_ASK, lambda fields: mesh.express.on_ask(peer_id, fields, header, key))
        if batch.trusted:
            batch.read(
                EXPRESS_OFFER, lambda fields: mesh.express.on_offer(peer_id, fields, header, key)
            )

    channel.on((EXPRESS_ASK, EXPRESS_OFFER), received)
