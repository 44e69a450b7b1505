"""The mesh: who is connected, and messages to and from them, over libp2p or in-process."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import voluptuous as vol

from swarm_hub.components.mesh.blobs.exchange import TICKET
from swarm_hub.components.mesh.express.offers import ASK as EXPRESS_ASK
from swarm_hub.components.mesh.express.offers import OFFER as EXPRESS_OFFER
from swarm_hub.components.mesh.identity import (
    hearsay_address,
    is_peer_id,
    parse_dial_address,
    parse_listen_address,
    peer_id_from_seed,
    without_loopback,
)
from swarm_hub.components.mesh.listener import listening as listening_for_blobs
from swarm_hub.components.mesh.peers.bans import Ban, BanList, own_within, parse_network
from swarm_hub.components.mesh.peers.capabilities import Capability
from swarm_hub.components.mesh.peers.peer import Greeter, Hello, PeerDown, PeerUp
from swarm_hub.components.mesh.service import GossipHandler, Mesh
from swarm_hub.components.mesh.transports.base import (
    PROVIDED_MAX,
    PeerGone,
    Proof,
    Provider,
    TransportOptions,
)
from swarm_hub.components.mesh.transports.registry import (
    IP_PREFIXES,
    Transports,
    listening,
    load_libraries,
    register_transport,
    scheme_of,
    schemes,
)
from swarm_hub.components.mesh.wire.framing import decode_messages, encode_message, join_messages
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.components.mesh.wire.traffic import TRAFFIC
from swarm_hub.const import IDENTITY_KEY_FILE
from swarm_hub.core import Hub, HubKey, SimpleReloader, StopStage
from swarm_hub.exceptions import MeshError
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.blob import Readable
from swarm_hub.util.bounds import shown
from swarm_hub.util.described import described
from swarm_hub.util.extras import of_gateways
from swarm_hub.util.files import load_or_create_key, refuse_key
from swarm_hub.util.metrics import Metric, MetricKind, by_label, gauge

if TYPE_CHECKING:
    from swarm_hub.components.mesh.join_link import (
        ADDRESSES_MAX,
        OTHERS_MAX,
        TOKEN_BYTES,
        JoinLink,
        LinkedGateway,
        parse_join_link,
    )
    from swarm_hub.components.mesh.peers.visit import NoAnswerError, visit
    from swarm_hub.helpers.obstacles import Obstacle, Site

__all__ = [
    "ADDRESSES_MAX",
    "EXPRESS_ASK",
    "EXPRESS_OFFER",
    "MESH",
    "OTHERS_MAX",
    "PROVIDED_MAX",
    "TICKET",
    "TOKEN_BYTES",
    "Ban",
    "Capability",
    "Greeter",
    "Hello",
    "JoinLink",
    "LinkedGateway",
    "Mesh",
    "Message",
    "NoAnswerError",
    "PeerDown",
    "PeerGone",
    "PeerUp",
    "Proof",
    "Provider",
    "Readable",
    "decode_messages",
    "encode_message",
    "hearsay_address",
    "is_peer_id",
    "join_messages",
    "load_libraries",
    "own_within",
    "parse_dial_address",
    "parse_join_link",
    "parse_network",
    "peer_id_from_seed",
    "register_transport",
    "visit",
    "without_loopback",
]

__getattr__ = of_gateways(
    __name__,
    {
        "ADDRESSES_MAX": "join_link",
        "LinkedGateway": "join_link",
        "OTHERS_MAX": "join_link",
        "TOKEN_BYTES": "join_link",
        "JoinLink": "join_link",
        "NoAnswerError": "peers.visit",
        "parse_join_link": "join_link",
        "visit": "peers.visit",
    },
)

MESH: Final = HubKey[Mesh]("mesh")


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """`mesh:`: where to listen and whom to find."""

    transport: str
    listen: tuple[str, ...]
    bootnodes: tuple[str, ...]
    mdns: bool
    heartbeat_s: float
    queue_bytes: int
    bulk: str | None
    express: bool


def _address(parse: Callable[[str], object]) -> Callable[[Any], str]:
    @described({"type": "string", "examples": ["/ip4/192.168.1.10/tcp/4001"]})
    def validate(value: Any) -> str:
        if not isinstance(value, str):
            raise vol.Invalid(
                f"expected an address such as /ip4/192.168.1.10/tcp/4001, got {shown(value)}"
            )
        if scheme_of(value) is not None and not value.startswith(IP_PREFIXES):
            return value
        try:
            parse(value)
        except MeshError as error:
            raise vol.Invalid(str(error)) from None
        return value

    return validate


@described({"type": "string", "examples": ["libp2p", "loopback"]})
def _scheme(value: Any) -> str:
    # Custom components may have registered others by now.
    return cv.one_of(*schemes())(value)


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("transport", default="libp2p", reloadable=False): _scheme,
        cv.Key("listen", default=lambda: ["/ip4/0.0.0.0/tcp/4001"], reloadable=False): cv.sequence(
            _address(parse_listen_address)
        ),
        cv.Key("bootnodes", default=list, reloadable=True): cv.sequence(
            _address(parse_dial_address)
        ),
        cv.Key("mdns", default=True, reloadable=False): cv.boolean,
        cv.Key("heartbeat", default=5, reloadable=False, field="heartbeat_s"): cv.positive_duration,
        cv.Key("queue", default="8MiB", reloadable=False, field="queue_bytes"): cv.size,
        cv.Key("bulk", default="/ip4/0.0.0.0/tcp/0", reloadable=False): vol.Any(
            vol.All(False, lambda _off: None),
            _address(parse_listen_address),
            msg="expected false or an address to listen on such as /ip4/0.0.0.0/tcp/4002",
        ),
        cv.Key("express", default=True, reloadable=False): cv.boolean,
    },
    MeshConfig,
)


async def async_setup(hub: Hub, config: MeshConfig) -> bool:
    """Set up the mesh; it comes up in the background, so that the hub never waits for peers."""
    seed = load_or_create_key(hub.storage_path(IDENTITY_KEY_FILE), "mesh identity")
    peer_id = peer_id_from_seed(seed)
    # Filled before the transports start, by components that register for a topic.
    gossip: dict[str, GossipHandler] = {}
    options = TransportOptions(
        seed,
        peer_id,
        config.listen,
        config.mdns,
        TransportLimits(max_queue_bytes=config.queue_bytes),
        gossip.keys(),
        Requests(),
    )
    transports = Transports(config.transport, options)
    bans = await BanList.load(hub)
    bulk = None if config.bulk is None else parse_listen_address(config.bulk)
    mesh = Mesh(
        hub, peer_id, transports, bans, config.bootnodes, config.heartbeat_s, gossip,
        options.limits, bulk, express=config.express,
    )  # fmt: skip
    hub.services[MESH] = mesh
    hub.control.add_status(
        "peers",
        lambda: [
            {
                "peer_id": peer_id,
                "name": hello.name,
                "roles": sorted(hello.capabilities),
                "express": mesh.is_express(peer_id),
            }
            for peer_id, hello in mesh.peers().items()
        ],
    )

    hub.listens.update(config.listen, [] if bulk is None else [str(config.bulk)])
    hub.endpoints.add_metrics(lambda: _metrics(mesh))
    hub.reloaders["mesh"] = SimpleReloader(lambda new: mesh.dial(new.bootnodes))
    hub.on_start(mesh.start)
    hub.on_stop(StopStage.DISCONNECT, "mesh", mesh.stop, timeout_s=6)
    return True


def preflight(site: "Site", config: MeshConfig) -> "Iterator[Obstacle]":
    """Yield what would keep the mesh from listening, or from having its identity."""
    key = site.storage_path(IDENTITY_KEY_FILE)
    yield from site.refusal(partial(refuse_key, key, "mesh identity"))
    for address in config.listen:
        listen = partial(listening, config.transport, address)
        yield from site.refusal(partial(site.hold, address, listen), "listen")
    if config.bulk is not None and site.listens_for_bulk:
        try:
            site.hold(config.bulk, partial(listening_for_blobs, parse_listen_address(config.bulk)))
        except MeshError as error:
            yield from site.warning(str(error), "bulk")


def _metrics(mesh: Mesh) -> Iterable[Metric]:
    moved = {"connections": TRAFFIC.connections_bytes, "direct": TRAFFIC.direct_bytes}
    return (
        gauge("swarm_hub_peers", "Connected peers.", len(mesh.peers())),
        by_label(
            "swarm_hub_mesh_bytes_total", MetricKind.COUNTER, "What the mesh has sent and "
            "received, over the transport's connections and beside them.", "way", moved,
        ),
    )  # fmt: skip
