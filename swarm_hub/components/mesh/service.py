"""Peers as the hub sees them: greeted, alive, reachable by id whatever transport carries them.

It is long because it has both interfaces of the mesh: what components call and what transports
report.
"""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from swarm_hub.components.mesh.blobs.exchange import (
    TICKET_REFUSED,
    BlobExchange,
    BlobSource,
    SendSigned,
)
from swarm_hub.components.mesh.blobs.providers import BlobRoutes
from swarm_hub.components.mesh.express.offers import Place
from swarm_hub.components.mesh.express.plane import UNDER_WAY_S, ExpressPlane, SendAlone
from swarm_hub.components.mesh.identity import PeerAddress
from swarm_hub.components.mesh.listener import DirectListener
from swarm_hub.components.mesh.peers.bans import BanList, SessionBans
from swarm_hub.components.mesh.peers.capabilities import Capabilities, Capability
from swarm_hub.components.mesh.peers.floods import Floods
from swarm_hub.components.mesh.peers.heartbeats import LOOKS_A_BEAT, Heartbeats
from swarm_hub.components.mesh.peers.local_address import AddressNews, LocalAddresses
from swarm_hub.components.mesh.peers.peer import (
    Greeter,
    Hello,
    NoWorkInCommon,
    Peer,
    PeerDown,
    PeerUp,
    admit_hello,
    compose_hello,
)
from swarm_hub.components.mesh.peers.presence import SETTLED_S, PresenceLog
from swarm_hub.components.mesh.peers.redial import Redialler, by_peer
from swarm_hub.components.mesh.peers.table import PeerTable
from swarm_hub.components.mesh.transports.base import (
    Bans,
    Gossip,
    PeerGone,
    Proof,
    Session,
    Transport,
    TransportEvents,
    Watched,
)
from swarm_hub.components.mesh.transports.registry import Transports
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.framing import FrameError, encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.traffic import TRAFFIC
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, MeshError
from swarm_hub.models.blob import Readable
from swarm_hub.util.apart import apart
from swarm_hub.util.exhaustion import end_if_exhausted
from swarm_hub.util.shape import told

_LOGGER = logging.getLogger(__name__)

# Another address may be there a moment after the old one went.
_SETTLED_S: Final = 0.25
_LOOK_AT_ADDRESSES_EVERY_S: Final = 1.0
_THREAD_BOUND_S: Final = 45.0
# A hub whose loop was busy for long is not one that has slept.
_SLACK_S: Final = 5.0
GossipHandler = Callable[[str, bytes], None]
ProvenHandler = Callable[[str, Proof, list[Message]], None]
_GOSSIP: Final = "gossip"


class Mesh:
    """The mesh of one hub.

    Listen to `PeerUp` and `PeerDown` on the bus; register a handler for each kind of message.
    """

    def __init__(
        self,
        hub: Hub,
        peer_id: str,
        transports: Transports,
        bans: BanList,
        bootnodes: Sequence[str],
        heartbeat_s: float,
        gossip: dict[str, GossipHandler],
        limits: TransportLimits,
        bulk: PeerAddress | None = None,
        *,
        express: bool = True,
    ) -> None:
        self._hub = hub
        # The identity by which others know this hub.
        self.peer_id = peer_id
        self._transports = transports
        self._gossiping = [each for each in transports if isinstance(each, Gossip)]
        self.bans = bans
        self._bootnodes = tuple(bootnodes)
        # Those that were told of by gateways that this hub obeys.
        self._told: tuple[str, ...] = ()
        self._dials = False
        self._heartbeat_s = heartbeat_s
        self._bulk = bulk
        self._table = PeerTable()
        self._peers, self._sessions = self._table.peers, self._table.sessions
        self._heartbeats = Heartbeats(self._peers, hub.clock, heartbeat_s, self._say)
        # Set when a session began, which may be the next one to be lost.
        self._silence_nearer = asyncio.Event()
        self._local = LocalAddresses()
        self._address_news = AddressNews()
        self._presence = PresenceLog()
        self._redialler = Redialler(hub.tasks, self._is_wanted)
        self._not_wanted: set[str] = set()
        self._floods = Floods(hub, bans, self.disconnect, limits.max_gossip_per_s)
        self._handlers: dict[str, Callable[[str, Mapping[str, Any]], None]] = {}
        # The kinds that count as signed because of the connection that they came over.
        self._proven: Collection[str] = ()
        self._on_proven: ProvenHandler = lambda _peer, _proof, _messages: None
        self._gossip = gossip
        self._stopping = False
        self._starting: asyncio.Task[None] | None = None
        self._greeter: Greeter | None = None
        self._capabilities = Capabilities()
        self._listener = DirectListener(bans.refuses_ip)
        self.exchange = BlobExchange(self, hub.tasks, self._listener, hub.storage_path())
        self.express = ExpressPlane(
            self, self._listener, hub.tasks, hub.clock, limits, self._heartbeats.silent_s + _SLACK_S
        )
        self._uses_express = express
        # The newest gossip for sessions that are about to go over an express connection.
        self._untold: dict[Session, tuple[str, bytes]] = {}
        self.routes = BlobRoutes(self._transports)
        sides = [(each, *self._side_of(each)) for each in transports]
        self._sides = [(transport, side) for transport, side, _ in sides]
        bans.enforce([each for _, _, each in sides], self.disconnect, self._redialler.lost)
        self.on("hello", self._on_hello)
        self.on("heartbeat", self._heartbeats.on_heartbeat)
        self.on("need", self.exchange.on_need)
        self.on("blob", self.exchange.on_blob)
        self.on(TICKET_REFUSED, self.exchange.on_ticket_refused)
        self.on(_GOSSIP, self._on_told_gossip)

    @property
    def moved_bytes(self) -> int:
        """What went over the network, in both directions, since this process began."""
        return TRAFFIC.total_bytes

    @property
    def capabilities(self) -> Mapping[str, Mapping[str, Any]]:
        """What this hub says in its `hello`: the properties of each capability."""
        return self._capabilities.told

    def register(self, capability: Capability) -> None:
        """Have this hub announce a capability and act on it; call it before the start."""
        self._require_not_started()
        self._capabilities.add(capability)

    def sign_with(
        self,
        greeter: Greeter,
        send_signed: SendSigned,
        own_key: Callable[[], bytes],
        send_alone: SendAlone,
    ) -> None:
        """Send signed greetings, tickets for the bulk plane and offers for the express plane.

        Call it once.
        """
        self._require_not_started()
        if self._greeter is not None:
            raise ValueError("the mesh has a greeter already")
        self._greeter = greeter
        self.exchange.sign_tickets_with(send_signed)
        if self._uses_express:
            self.express.sign_with(own_key, send_alone)

    def take_proven(self, kinds: Collection[str], handler: ProvenHandler) -> None:
        """Hand messages of these kinds that came over an express connection to `handler`.

        Those that came together are handed over together: `handler(peer_id, proof, messages)`.
        From a stream they are unknown, as nothing there says whose they are.
        """
        self._proven, self._on_proven = kinds, handler

    def send_proven(self, peer_id: str, messages: Sequence[bytes]) -> None:
        """Send encoded messages over an express connection; raises MeshError."""
        session = self._carrier(peer_id)
        if not isinstance(session, FramedSession):
            raise PeerGone(f"there is no express connection with peer {peer_id}")
        session.send_proven(messages)

    def wants(self, hello: Hello) -> bool:
        """Whether a peer is of use to any capability of this hub."""
        return self._capabilities.want(hello)

    def addresses(self) -> tuple[str, ...]:
        """Where others can dial this hub; empty until the mesh is up."""
        return self._transports.addresses()

    def peers(self) -> dict[str, Hello]:
        """Return the admitted peers."""
        return {peer_id: peer.hello for peer_id, peer in self._peers.items() if peer.hello}

    def is_admitted(self, peer_id: str) -> bool:
        """Whether a peer is one of `peers()`."""
        peer = self._peers.get(peer_id)
        return peer is not None and peer.hello is not None

    def is_express(self, peer_id: str) -> bool:
        """Whether what is sent to a peer goes over an express connection."""
        peer = self._peers.get(peer_id)
        return peer is not None and _is_express(peer.session)

    def store_of(self, peer_id: str) -> str:
        """Return the id of an admitted peer's store, empty when it has disconnected."""
        peer = self._peers.get(peer_id)
        return "" if peer is None or peer.hello is None else peer.hello.db_id

    def rtt_s(self, peer_id: str) -> float | None:
        """Return the round-trip time of the newest heartbeat, None before the first."""
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.rtt_s

    def on(self, kind: str, handler: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Hand every message of that kind from an admitted peer to `handler(peer_id, fields)`."""
        self._handlers[kind] = handler

    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        """Allow a topic; `handler(author, payload)` is called where a capability hears gossip.

        Call it before the start.
        """
        self._require_not_started()
        self._gossip[topic] = handler

    def send(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        """Queue one message; raises MeshError when the peer disconnected or reads too slowly."""
        self._carrier(peer_id).send(encode_message(kind, fields))

    async def send_bulk(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        """Queue a bulk message once there is room; raises MeshError when the peer disconnected."""
        await self._carrier(peer_id).send_bulk(encode_message(kind, fields))

    async def request(
        self, peer_id: str, kind: str, fields: Mapping[str, Any], timeout_s: float = 10.0
    ) -> Mapping[str, Any]:
        """Send a message and return the fields of its reply; raises MeshError."""
        return await self._carrier(peer_id).request(kind, fields, timeout_s)

    def host_of(self, peer_id: str) -> str | None:
        """Return the IP address that a peer's session leads to, None for one in this process."""
        peer = self._peers.get(peer_id)
        parts = peer.session.address.split("/") if peer is not None else []
        return parts[2] if len(parts) > 2 and parts[1] in ("ip4", "ip6") else None

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip a payload; it may be lost.

        Where there is an express connection, or will be in a moment, it goes over that; gossip is
        for the others, and costs streams of its own.
        """
        others = False
        for peer_id, peer in self._peers.items():
            if peer.hello is None:
                continue
            if _is_express(peer.session):
                self._say(peer.session, _GOSSIP, {"topic": topic, "payload": payload})
            elif self.express.is_under_way(peer_id):
                self._untold[peer.session] = topic, payload
                asyncio.get_running_loop().call_later(UNDER_WAY_S, self._tell_late, peer.session)
            else:
                others = True
        if others:
            await self._gossip_out(topic, payload)

    async def _gossip_out(self, topic: str, payload: bytes) -> None:
        for transport in self._gossiping:
            try:
                await transport.publish(topic, payload)
            except MeshError as error:
                _LOGGER.debug("Gossip on %s failed: %s", topic, error)

    async def fetch(self, peer_id: str, sha: str, size_bytes: int) -> bytes:
        """Fetch a blob by its hash from a peer, verified; raises MeshError."""
        return await self.exchange.fetch(peer_id, sha, size_bytes)

    def fetching(
        self, peer_id: str, sha: str, size_bytes: int
    ) -> AbstractAsyncContextManager[Readable]:
        """Fetch a blob as `fetch` does, but keep a large one out of memory."""
        return self.exchange.fetching(peer_id, sha, size_bytes)

    def serve_blobs(self, source: BlobSource) -> None:
        """Answer peers' `need` with the bytes that `source(peer_id, sha)` gives."""
        self.exchange.add_source(source)

    async def disconnect(self, peer_id: str, reason: str) -> None:
        """End every session with a peer."""
        if (peer := self._peers.get(peer_id)) is not None:
            for session in tuple(peer.heard):
                await session.close(reason)

    async def ban(self, peer_id: str, reason: str, until: float | None = None) -> None:
        """Ban a peer: it is refused in both directions until `unban` or `until`."""
        await self.bans.add(peer_id, reason, until)

    async def unban(self, peer_id: str) -> bool:
        """Lift a ban; returns whether there was one."""
        return await self.bans.lift(peer_id)

    def is_banned(self, peer_id: str) -> bool:
        """Whether a ban of this peer is in force."""
        return self.bans.of(peer_id) is not None

    async def start(self) -> None:
        """Come up in the background, so that the hub never waits for its mesh."""
        self._starting = self._hub.tasks.spawn(self._start(), "mesh start")

    async def _start(self) -> None:
        """Bring up the mesh; whatever goes wrong, no hub goes on without it."""
        try:
            await self._bring_up()
        except HubError as error:
            _LOGGER.error("The mesh can't start: %s", error)
        except ImportError as error:
            _LOGGER.error("The mesh can't start: %s; swarm-hub doctor says what to do", error)
        except Exception as error:
            end_if_exhausted(error)
            _LOGGER.exception("The mesh can't start: %r", error)
        else:
            return
        self._hub.ask_to_stop(exit_code=1)

    async def _bring_up(self) -> None:
        """Bring up the transports, then look for peers."""
        for transport, side in self._sides:
            await transport.start(side)
            # Hearing everything would cost a phone that only publishes, for nothing.
            if isinstance(transport, Gossip) and self._capabilities.hear_gossip:
                for topic in self._gossip:
                    await transport.subscribe(topic)
            if isinstance(transport, Watched):
                self._hub.watchdog.watch(
                    "the mesh's thread", transport.sign, _THREAD_BOUND_S,
                    functools.partial(self.failed, "its thread is stuck"),
                )  # fmt: skip
        self.bans.apply()
        if self._capabilities.include_own_peer:
            await self._transports.dial_own()
        self._dials = True
        self._keep_dialling()
        self._hub.tasks.every(self._heartbeat_s, self._beat, "heartbeats")
        # What is not told is looked at.
        is_told = self._address_news.open()
        self._hub.tasks.after(
            self._address_news.sign,
            self._drop_moved,
            "own addresses",
            pause_s=_SETTLED_S,
            at_least_every_s=self._heartbeat_s if is_told else _LOOK_AT_ADDRESSES_EVERY_S,
        )
        self._silence_nearer = self._hub.tasks.when_due(
            self._heartbeats.left_s,
            self._drop_lost,
            "silent peers",
            pause_s=self._heartbeat_s / LOOKS_A_BEAT,
        )
        if self._bulk is not None and self._capabilities.listen_for_bulk:
            self._listener.start(self._bulk, self._hub.tasks)
        for address in self.addresses():
            _LOGGER.info("Listening on %s", address)

    async def stop(self) -> None:
        """Say goodbye and stop the transports."""
        self._stopping = True
        self._address_news.close()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self.express.leave()
        await self._listener.stop()
        self.exchange.stop()
        await asyncio.gather(*(transport.stop() for transport in self._transports))

    def _is_wanted(self, peer_id: str) -> bool:
        return not (self._stopping or peer_id in self._peers or self.is_banned(peer_id))

    async def _drop_lost(self) -> None:
        # All at once: disconnecting a frozen peer takes time, and there may be many.
        lost = self._heartbeats.lost()
        await asyncio.gather(*(session.close(reason) for session, reason in lost))

    async def _drop_moved(self) -> None:
        reason = "this device's address has changed"
        await asyncio.gather(*(session.close(reason) for session in self._local.moved()))

    async def _beat(self) -> None:
        self._heartbeats.beat()
        now = self._hub.clock.monotonic()
        for peer_id, peer in self._peers.items():
            if peer.hello is not None and now - peer.connected_at > SETTLED_S:
                self._presence.stayed(peer_id, peer.hello.name)
        self.bans.apply()

    def rekey(self, peer_id: str, public_key: bytes) -> None:
        """Note that an admitted peer signs with another key now, as it has proven."""
        peer = self._peers.get(peer_id)
        if peer is not None and peer.hello is not None and peer.hello.public_key != public_key:
            peer.hello = dataclasses.replace(peer.hello, public_key=public_key)

    def connected(self, session: Session) -> None:
        """Greet on a new session, which from now on carries what is sent."""
        self._table.begin(session, self._hub.clock.monotonic())
        self._silence_nearer.set()
        self._local.began(session)
        self._say(session, "hello", compose_hello(self._greeter, session.peer_id))

    def disconnected(self, session: Session, reason: str) -> None:
        """Forget a session, and its peer unless another session leads to it."""
        self._local.ended(session)
        self.express.parted(session)
        self._untold.pop(session, None)
        if (peer := self._table.end(session)) is None:
            return
        # The part of a blob that was on its way in it is lost.
        self.exchange.peer_gone(session.peer_id)
        if not peer.heard:
            self._gone(session.peer_id, peer, reason)

    def _gone(self, peer_id: str, peer: Peer, reason: str) -> None:
        self._floods.forget(peer_id)
        self._redialler.lost(peer_id)
        if peer.hello is None:
            _LOGGER.debug("%s disconnected before it was admitted: %s", peer_id, reason)
            return
        if not self._stopping:
            stayed_s = self._hub.clock.monotonic() - peer.connected_at
            self._presence.left(peer_id, peer.hello.name, reason, stayed_s)
        self._hub.bus.fire(PeerDown(peer_id, reason))

    def received(
        self, session: Session, messages: Sequence[Message], proof: Proof | None = None
    ) -> None:
        """Hand messages to their handlers."""
        peer = self._sessions.get(session)
        if peer is None:
            return
        peer.heard[session] = self._hub.clock.monotonic()
        peer.heard_on = session
        peer_id = session.peer_id
        if proof is not None and peer.hello is not None:
            messages = self._hand_over_proven(peer_id, proof, messages)
        for kind, fields in messages:
            if peer.hello is None and kind != "hello":
                if not (peer.deciding and peer.hold((kind, fields))):
                    self._floods.fault(peer_id, peer, f"{kind} before it was admitted")
                continue
            if self._floods.lets_go(peer_id):
                continue
            if kind == "envelope" and not self._floods.takes_envelope(peer_id):
                continue
            handler = self._handlers.get(kind)
            if handler is None:
                _LOGGER.debug("%s sent an unknown message %s", peer_id, kind)
                continue
            try:
                handler(peer_id, fields)
            except (KeyError, TypeError, ValueError, OverflowError, FrameError) as error:
                # A malformed message is its sender's fault; it must not stop other peers' messages.
                self._floods.fault(peer_id, peer, f"a malformed {kind}: {told(error)}")
            except Exception:
                # Ours perhaps, but this message's alone.
                _LOGGER.exception("A %s of %s can't be handled", kind, peer_id)

    def _hand_over_proven(
        self, peer_id: str, proof: Proof, messages: Sequence[Message]
    ) -> Sequence[Message]:
        """Hand over what counts as signed, in its order; returns the rest."""
        proven = [message for message in messages if message[0] in self._proven]
        if not proven:
            return messages
        if not self._floods.lets_go(peer_id):
            apart(_LOGGER, f"Handling what {peer_id} said", self._on_proven, peer_id, proof, proven)
        if len(proven) == len(messages):
            return ()
        return [message for message in messages if message[0] not in self._proven]

    def dial(self, bootnodes: Sequence[str]) -> None:
        """Stay connected to these bootnodes from now on, without ending a session with others."""
        self._bootnodes = tuple(bootnodes)
        self._keep_dialling()

    def dial_also(self, addresses: Sequence[str]) -> None:
        """Stay connected to these as well, in place of those that were given here before."""
        self._told = tuple(addresses)
        self._keep_dialling()

    def _keep_dialling(self) -> None:
        if self._dials:
            self._redialler.keep_all(self._transports, by_peer((*self._bootnodes, *self._told)))

    def fault(self, peer_id: str, what: str) -> None:
        """Note what is wrong with something that a peer sent."""
        if (peer := self._peers.get(peer_id)) is not None:
            self._floods.fault(peer_id, peer, what)

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None:
        """Hand gossip to the handler of its topic."""
        if (handler := self._gossip.get(topic)) is not None:
            apart(_LOGGER, f"Handling gossip of {peer_id} on {topic}", handler, peer_id, payload)

    def discovered(self, transport: Transport, peer_id: str, addresses: Sequence[str]) -> None:
        """Dial a hub that a transport saw, unless it turned out to be of no use."""
        if (
            self._capabilities.seek_peers
            and peer_id not in self._not_wanted
            and self._is_wanted(peer_id)
        ):
            self._redialler.found(transport, peer_id, addresses)

    def flooded(self, peer_id: str, reason: str) -> None:
        """Remember a peer that was disconnected for flooding."""
        self._floods.strike(peer_id, reason)

    def failed(self, reason: str) -> None:
        """Stop the hub when a transport died."""
        _LOGGER.error("The mesh failed: %s", reason)
        self._hub.ask_to_stop(exit_code=1)

    def place(self, session: Session) -> Place | None:
        """Return the session as this side names it, None if it can have no express connection."""
        peer = self._sessions.get(session)
        if peer is None or peer.hello is None or not isinstance(session, FramedSession):
            return None
        if session.generation is None:
            return None
        return Place(self._hub.boot_id, peer.hello.boot_id, session.generation)

    def session_of(self, peer_id: str) -> Session | None:
        """Return the session that carries what is sent to an admitted peer."""
        peer = self._peers.get(peer_id)
        return None if peer is None or peer.hello is None else peer.session

    def went_express(self, session: Session) -> None:
        """Say something at once: the peer waits for it before it goes over as well."""
        self._say(session, "heartbeat", {"t": self._hub.clock.monotonic()})
        if (untold := self._untold.pop(session, None)) is not None:
            topic, payload = untold
            self._say(session, _GOSSIP, {"topic": topic, "payload": payload})

    def _tell_late(self, session: Session) -> None:
        """Gossip what waited for an express connection that has not come."""
        if (untold := self._untold.pop(session, None)) is not None:
            self._hub.tasks.spawn(self._gossip_out(*untold), "gossip")

    def _on_told_gossip(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        topic, payload = fields["topic"], fields["payload"]
        if not isinstance(payload, bytes) or topic not in self._gossip:
            raise ValueError("not bytes under a known topic")
        if self.is_express(peer_id) and self._floods.takes_gossip(peer_id):
            self.gossiped(peer_id, topic, payload)

    def _on_hello(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        peer = self._peers[peer_id]
        if peer.hello is None and not peer.deciding:
            peer.deciding = True
            self._hub.tasks.spawn(self._decide(peer_id, peer, fields), "admission")
        elif peer.hello is not None and fields.get("boot_id") != peer.hello.boot_id:
            self._begin_anew(peer_id, peer, fields)

    def _begin_anew(self, peer_id: str, peer: Peer, fields: Mapping[str, Any]) -> None:
        """Treat a peer that has restarted as a new one; its older sessions lead nowhere."""
        if not (older := self._table.end_all_but(peer.heard_on)):
            return
        reason = "replaced by a newer connection"
        for session in older:
            self._hub.tasks.spawn(session.close(reason), "close an older session")
        del self._peers[peer_id]
        self.exchange.peer_gone(peer_id)
        self._gone(peer_id, peer, reason)
        # The same object, because messages that came with this hello are held in it.
        peer.begin_anew(self._hub.clock.monotonic())
        self._peers[peer_id] = peer
        self._on_hello(peer_id, fields)

    async def _decide(self, peer_id: str, peer: Peer, fields: Mapping[str, Any]) -> None:
        """Admit a peer or disconnect it; what it says meanwhile waits for the decision."""
        try:
            hello = await admit_hello(self._greeter, peer_id, fields, self.wants)
        except NoWorkInCommon as error:
            self._not_wanted.add(peer_id)
            self._redialler.leave(peer_id)
            _LOGGER.debug("Leaving %s: neither of us has work for the other", peer_id)
            reason = str(error)
        except HubError as error:
            # It is not admitted, or the store that decides so can't be asked.
            self._presence.refused(peer_id, str(error))
            reason = str(error)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self._presence.refused(peer_id, f"it sent a malformed hello: {told(error)}")
            reason = "its hello is malformed"
        except Exception:
            _LOGGER.exception("The hello of %s can't be handled", peer_id)
            reason = "its hello can't be handled; see the log here"
        else:
            if self._peers.get(peer_id) is peer:
                peer.hello = hello
                self._presence.arrived(peer_id, hello.name)
                self._hub.bus.fire(PeerUp(peer_id, peer.session.address, hello))
                self.received(peer.session, peer.take_early())
                if self._capabilities.asks_for_express(self.peer_id, peer_id, hello):
                    self.express.met(peer_id)
            return
        if self._peers.get(peer_id) is peer:
            await self.disconnect(peer_id, reason)

    def _require_not_started(self) -> None:
        if self._starting is not None:
            raise ValueError("the mesh has started: register while components are set up")

    def _say(self, session: Session, kind: str, fields: Mapping[str, Any]) -> None:
        try:
            session.send(encode_message(kind, fields))
        except MeshError as error:
            _LOGGER.debug("Can't send %s to %s: %s", kind, session.peer_id, error)

    def _carrier(self, peer_id: str) -> Session:
        peer = self._peers.get(peer_id)
        if peer is None:
            raise PeerGone(f"{peer_id} is not connected")
        return peer.session

    def _side_of(self, transport: Transport) -> tuple[TransportEvents, Bans]:
        side = _Side(self, transport)
        if isinstance(transport, Bans):
            return side, transport
        bans = SessionBans(self._hub.tasks, side)
        return bans, bans


def _is_express(session: Session) -> bool:
    return isinstance(session, FramedSession) and session.is_express


class _Side:
    """A transport's events, labelled with that transport where it matters."""

    def __init__(self, mesh: Mesh, transport: Transport) -> None:
        self.peer_up = mesh.connected
        self.peer_down = mesh.disconnected
        self.received = mesh.received
        self.gossiped = mesh.gossiped
        self.discovered = functools.partial(mesh.discovered, transport)
        self.flooded = mesh.flooded
        self.failed = mesh.failed
