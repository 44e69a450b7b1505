"""Which sessions get an express connection: asked for by one side, offered by the other.

The side that seeks work asks, in a signed envelope, and the side that listens offers, so that the
one behind a router dials. Both envelopes name the session and the runs of both sides, and the keys
of the connection are bound to them. A connection that ends without a word ends its session: the
next one begins anew, and what was under way is asked for again as after any loss. Nothing here is
kept on disk. It is long because both sides of it are here, as a hub may be either, and what becomes
of a connection decides when the next one is asked for.
"""

import asyncio
import functools
import hashlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from swarm_hub.components.mesh.express.offers import ASK, OFFER, Ask, Offer, Place
from swarm_hub.components.mesh.express.opening import (
    MAGIC,
    PROOF_BYTES,
    Terms,
    check_first,
    first_body,
)
from swarm_hub.components.mesh.express.records import SUITE, Direction, Ephemeral, transcript
from swarm_hub.components.mesh.listener import (
    ID_BYTES,
    OPENING_TIMEOUT_S,
    DirectListener,
    Plane,
    Serve,
    connected,
    read,
    write,
)
from swarm_hub.components.mesh.transports.base import Proof, Session
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.metering import Allowance, MeterTable
from swarm_hub.exceptions import MeshError
from swarm_hub.models.envelope import key_id
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.back_off import back_off_s, jittered_s
from swarm_hub.util.clock import Clock
from swarm_hub.util.within import within

if TYPE_CHECKING:
    from swarm_hub.components.mesh.express.link import Link

_LOGGER = logging.getLogger(__name__)

_OFFER_VALID_S: Final = 10.0
_TRIES: Final = 3
# An ask costs this side a key exchange.
_ASKS_EVERY_S: Final = 0.5
# A connection that was asked for is there by then, or is not to be had.
UNDER_WAY_S: Final = 2.0
# A gateway that does not answer knows no express plane, or does not listen.
_AGAIN_S: Final = (2.0, 600.0)
_JITTER: Final = (0.75, 1.25)
# Who loses connections as often as this does without for a while.
_LOSSES: Final = 2
_WITHIN_S: Final = 60.0
_WITHOUT_S: Final = 60.0
# The reason that the peer gives on the stream may come after the end of the connection.
_LAST_WORD_S: Final = 0.5
_LEAVE_S: Final = 0.5
# Both sides have left the last connection by then.
_RENEWED_S: Final = 1.0
_REMEMBERED_MAX: Final = 1024

# `send(peer_id, kind, fields)` sends one signed message at once; returns the header of its
# envelope, None if it could not be sent.
SendAlone = Callable[[str, str, Mapping[str, Any]], bytes | None]


class Peers(Protocol):
    """What the plane asks of the mesh, and tells it."""

    def place(self, session: Session) -> Place | None:
        """Return which session that is; None for one that can have no express connection."""

    def session_of(self, peer_id: str) -> Session | None:
        """Return the session that carries what is sent to an admitted peer."""

    def host_of(self, peer_id: str) -> str | None:
        """Return the IP address of a peer's session, None if there is none."""

    def flooded(self, peer_id: str, reason: str) -> None:
        """A peer sends more than it may."""

    def went_express(self, session: Session) -> None:
        """What is sent to a peer goes over an express connection from now on."""


@dataclass(slots=True)
class _Asked:
    """An ask that waits for its offer."""

    session: FramedSession
    ephemeral: Ephemeral
    place: Place
    header: bytes
    # Whose signature it has.
    own_key: bytes


@dataclass(slots=True)
class _Offered:
    """An offer that waits for its connection until a monotonic time."""

    terms: Terms
    until: float
    tries: int = 0


@dataclass(slots=True)
class _History:
    """What became of earlier connections with a peer, by monotonic time."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_LOSSES))
    without_until: float = 0.0
    asked_at: float = -1e9
    own_ask_at: float = -1e9
    failures: int = 0


class ExpressPlane:
    """Makes and ends the express connections of one hub."""

    def __init__(
        self,
        peers: Peers,
        listener: DirectListener,
        tasks: TaskSupervisor,
        clock: Clock,
        limits: TransportLimits,
        silent_s: float,
    ) -> None:
        self._peers = peers
        self._listener = listener
        self._tasks = tasks
        self._clock = clock
        self._limits = limits
        self._silent_s = silent_s
        self._send: SendAlone | None = None
        self._own_key: Callable[[], bytes] = lambda: b""
        self._asked: dict[str, _Asked] = {}
        self._offers: dict[bytes, _Offered] = {}
        self._offer_of: dict[str, bytes] = {}
        self._links: dict[str, Link] = {}
        self._history: dict[str, _History] = {}
        self._stopping = False
        self._meters = MeterTable(Allowance.of(limits))
        listener.add(Plane(MAGIC, PROOF_BYTES, self._prove))

    def sign_with(self, own_key: Callable[[], bytes], send: SendAlone) -> None:
        """Agree on connections in signed messages; without it there are none."""
        self._own_key, self._send = own_key, send

    def vouches(self, peer_id: str, public_key: bytes) -> bool:
        """Whether what is sent to a peer now counts as the word of that key of this hub."""
        link = self._links.get(peer_id)
        return link is not None and link.session.is_express and link.own_key == public_key

    def is_under_way(self, peer_id: str) -> bool:
        """Whether a connection was asked for so recently that it will be there in a moment."""
        history = self._history.get(peer_id)
        return (
            history is not None
            and self._clock.monotonic() - history.own_ask_at < UNDER_WAY_S
            and peer_id not in self._links
        )

    # The session

    def met(self, peer_id: str) -> None:
        """Ask a peer for an express connection; again later, if it comes to nothing."""
        session = self._peers.session_of(peer_id)
        if self._send is None or self._stopping or not isinstance(session, FramedSession):
            return
        now = self._clock.monotonic()
        history = self._history_of(peer_id)
        if history.without_until > now:
            self._later(session, history.without_until - now)
            return
        place = self._peers.place(session)
        if place is None or session.planes.link is not None:
            return
        ephemeral, own_key = Ephemeral(), self._own_key()
        header = self._send(peer_id, ASK, Ask((SUITE,), ephemeral.public, place).to_wire())
        if header is not None:
            if history.failures == 0:
                history.own_ask_at = now
            self._asked[peer_id] = _Asked(session, ephemeral, place, header, own_key)
        pause_s = back_off_s(_AGAIN_S[0], history.failures, _AGAIN_S[1])
        history.failures += 1
        self._later(session, jittered_s(pause_s, *_JITTER))

    def parted(self, session: Session) -> None:
        """Forget what was agreed on in a session that has ended."""
        peer_id = session.peer_id
        asked = self._asked.get(peer_id)
        if asked is not None and asked.session is session:
            del self._asked[peer_id]
        offer_id = self._offer_of.get(peer_id)
        if offer_id is not None and self._offers[offer_id].terms.session is session:
            self._withdraw(peer_id)
        link = self._links.get(peer_id)
        if link is not None and link.session is session:
            del self._links[peer_id]

    async def leave(self) -> None:
        """Return every session to its stream before the hub stops; none is asked for again."""
        self._stopping = True
        sessions = [link.session for link in self._links.values()]
        for session in sessions:
            session.planes.leave()
        left = asyncio.gather(*(session.planes.on_stream.wait() for session in sessions))
        await within(_LEAVE_S, left)

    def renew(self) -> None:
        """Return to the streams; new connections are made under the keys that count now."""
        for peer_id in tuple(self._offer_of):
            self._withdraw(peer_id)
        self._asked.clear()
        for link in tuple(self._links.values()):
            link.session.planes.leave()

    # What peers say, in signed messages

    def on_ask(self, peer_id: str, fields: Mapping[str, Any], header: bytes, key: bytes) -> None:
        """Offer a connection; `header` is that of the envelope, which was signed with `key`."""
        ask = Ask.from_wire(fields)
        session, now = self._peers.session_of(peer_id), self._clock.monotonic()
        history = self._history_of(peer_id)
        if (
            self._send is None
            or self._stopping
            or not self._listener.is_listening
            or not isinstance(session, FramedSession)
            or SUITE not in ask.suites
            or session.planes.is_in_use
            or history.without_until > now
            or now - history.asked_at < _ASKS_EVERY_S
        ):
            return
        place = self._peers.place(session)
        if place is None or ask.place != place.seen_by_peer():
            _LOGGER.debug("%s asked for an express connection of another session", peer_id)
            return
        history.asked_at = now
        self._withdraw(peer_id)
        if session.planes.link is not None:
            # The peer has lost it before anything went over it.
            session.planes.drop()
        own = Ephemeral()
        offer = Offer(
            SUITE, os.urandom(ID_BYTES), own.public, self._listener.port, place, _sha(header)
        )
        own_key = self._own_key()
        sent = self._send(peer_id, OFFER, offer.to_wire())
        if sent is None:
            return
        agreed = transcript(header, key, sent, own_key)
        secrets = own.secrets(ask.ephemeral, agreed)
        terms = Terms(session, Proof(peer_id, key, key_id(key)), own_key, secrets, agreed)
        self._offers[offer.id] = _Offered(terms, now + _OFFER_VALID_S)
        self._offer_of[peer_id] = offer.id

    def on_offer(self, peer_id: str, fields: Mapping[str, Any], header: bytes, key: bytes) -> None:
        """Connect as a peer has offered."""
        offer, asked = Offer.from_wire(fields), self._asked.get(peer_id)
        if asked is None or offer.ask != _sha(asked.header) or offer.suite != SUITE:
            _LOGGER.debug("%s offered an express connection that was not asked for", peer_id)
            return
        del self._asked[peer_id]
        host = self._peers.host_of(peer_id)
        if (
            host is None
            or self._peers.session_of(peer_id) is not asked.session
            or offer.place != asked.place.seen_by_peer()
        ):
            return
        agreed = transcript(asked.header, asked.own_key, header, key)
        secrets = asked.ephemeral.secrets(offer.ephemeral, agreed)
        proof = Proof(peer_id, key, key_id(key))
        terms = Terms(asked.session, proof, asked.own_key, secrets, agreed)
        self._tasks.spawn(self._dial(host, offer.port, offer.id, terms), "express connection")

    # Connecting

    async def _dial(self, host: str, port: int, offer_id: bytes, terms: Terms) -> None:
        outgoing, incoming = Direction(terms.secrets[0]), Direction(terms.secrets[1])
        try:
            async with asyncio.timeout(OPENING_TIMEOUT_S):
                connection = await connected(host, port)
            with connection:
                async with asyncio.timeout(OPENING_TIMEOUT_S):
                    await write(connection, MAGIC + offer_id + outgoing.seal(first_body(terms)))
                    check_first(incoming, bytes(await read(connection, PROOF_BYTES)), terms)
                await self._begin(connection, terms, outgoing, incoming, answers=False)
        except (OSError, TimeoutError, MeshError) as error:
            _LOGGER.info(
                "No express connection to %s port %d, going on with the stream: %s",
                host,
                port,
                error or "too slow",
            )

    def _prove(self, offer_id: bytes, opening: bytes) -> Serve | None:
        offered = self._offers.get(offer_id)
        if offered is None or self._clock.monotonic() > offered.until:
            return None
        terms = offered.terms
        incoming = Direction(terms.secrets[0])
        try:
            check_first(incoming, opening, terms)
        except MeshError as error:
            # Whoever has seen the id on its way could use the offer up.
            offered.tries += 1
            if offered.tries >= _TRIES:
                self._withdraw(terms.proof.peer_id)
            _LOGGER.debug("An express connection was not proven: %s", error)
            return None
        self._withdraw(terms.proof.peer_id)
        return functools.partial(self._serve, terms, incoming)

    async def _serve(self, terms: Terms, incoming: Direction, connection: socket.socket) -> None:
        outgoing = Direction(terms.secrets[1])
        async with asyncio.timeout(OPENING_TIMEOUT_S):
            await write(connection, outgoing.seal(first_body(terms)))
        await self._begin(connection, terms, outgoing, incoming, answers=True)

    async def _begin(
        self,
        connection: socket.socket,
        terms: Terms,
        outgoing: Direction,
        incoming: Direction,
        *,
        answers: bool,
    ) -> None:
        # Imported here because a hub without express connections never needs it.
        from swarm_hub.components.mesh.express.link import Link, Owner

        session, peer_id = terms.session, terms.session.peer_id
        if not self._is_wanted(session):
            raise MeshError("its session has ended meanwhile")
        owner = Owner(
            lambda reason: self._broken(link, reason),
            lambda: self._closed(link, asks=not answers),
            lambda reason: self._end(session, reason),
            functools.partial(self._flooded, session),
            self._clock.boottime,
        )
        meter = self._meters.of(peer_id, asyncio.get_running_loop().time())
        link = Link(
            session, terms.proof, terms.own_key, outgoing, incoming, meter, self._limits,
            self._silent_s, owner,
        )  # fmt: skip
        made = socket.socket(fileno=connection.detach())
        await asyncio.get_running_loop().connect_accepted_socket(lambda: link, made)
        if not self._is_wanted(session):
            link.abort()
            raise MeshError("its session has ended meanwhile")
        self._links[peer_id] = link
        self._history_of(peer_id).failures = 0
        session.planes.attach(link, functools.partial(self._lost, session), answers=answers)
        if not answers:
            self._peers.went_express(session)

    def _is_wanted(self, session: FramedSession) -> bool:
        return (
            not self._stopping
            and self._peers.session_of(session.peer_id) is session
            and session.planes.link is None
        )

    # Its end

    def _broken(self, link: "Link", reason: str) -> None:
        """Note that a connection is gone without a word."""
        session = link.session
        if self._links.get(session.peer_id) is link:
            del self._links[session.peer_id]
        if session.planes.broken(link, reason):
            # It carried nothing yet.
            _LOGGER.debug("The express connection with %s: %s", session.peer_id, reason)

    def _closed(self, link: "Link", *, asks: bool) -> None:
        """Ask for another connection in place of one that both sides have left."""
        session = link.session
        if self._links.get(session.peer_id) is link:
            del self._links[session.peer_id]
        if asks and not self._stopping:
            self._later(session, jittered_s(_RENEWED_S, *_JITTER))

    def _lost(self, session: FramedSession, reason: str) -> None:
        """End a session that has lost messages with its connection."""
        now, history = self._clock.monotonic(), self._history_of(session.peer_id)
        history.losses.append(now)
        if len(history.losses) == _LOSSES and now - history.losses[0] <= _WITHIN_S:
            history.without_until = now + _WITHOUT_S
        asyncio.get_running_loop().call_later(_LAST_WORD_S, self._end, session, reason)

    def _flooded(self, session: FramedSession, reason: str) -> None:
        """Let go of a peer that keeps sending more than it may."""
        self._peers.flooded(session.peer_id, reason)
        self._end(session, reason)

    def _end(self, session: FramedSession, reason: str) -> None:
        if not session.is_over:
            self._tasks.spawn(session.close(reason), "end a session")

    def _later(self, session: FramedSession, wait_s: float) -> None:
        """Ask again unless there is a connection by then, or another session."""

        def ask() -> None:
            if self._peers.session_of(session.peer_id) is session and session.planes.link is None:
                self.met(session.peer_id)

        asyncio.get_running_loop().call_later(wait_s, ask)

    def _withdraw(self, peer_id: str) -> None:
        offer_id = self._offer_of.pop(peer_id, None)
        if offer_id is not None:
            del self._offers[offer_id]

    def _history_of(self, peer_id: str) -> _History:
        history = self._history.pop(peer_id, None) or _History()
        # The last one used stands last.
        self._history[peer_id] = history
        if len(self._history) > _REMEMBERED_MAX:
            del self._history[next(iter(self._history))]
        return history


def _sha(header: bytes) -> bytes:
    return hashlib.sha256(header).digest()
