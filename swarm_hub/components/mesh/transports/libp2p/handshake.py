"""The first message each way on a new stream: whether it becomes the session of two peers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swarm_hub.components.mesh.transports.libp2p import arbitration
from swarm_hub.components.mesh.transports.libp2p.arbitration import (
    BUSY,
    LIVE,
    OPEN,
    Generation,
    Opening,
)
from swarm_hub.components.mesh.transports.libp2p.session import READ_BYTES, Stream, StreamSession
from swarm_hub.components.mesh.wire.framing import (
    FrameDecoder,
    FrameError,
    encode_frame,
    encode_message,
)
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits

# Remembering which session was seen last only speeds up the return of a peer.
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Agreed:
    generation: Generation
    peer_boot: bytes


class _Reader:
    """Reads one message at a time; whatever came along with it belongs to the session."""

    def __init__(self, stream: Stream, max_frame_bytes: int) -> None:
        self.stream = stream
        self.decoder = FrameDecoder(max_frame_bytes)
        self.early: list[Message] = []

    async def message(self) -> Message:
        while not self.early:
            received = await self.stream.read(READ_BYTES)
            if not received:
                raise FrameError("nothing before it closed the stream")
            self.early = self.decoder.feed(received)
        return self.early.pop(0)


class Handshakes:
    """Decides about new streams for one node, knowing its sessions; see `arbitration`."""

    def __init__(self, own_id: str, sessions: Mapping[str, StreamSession], limits: TransportLimits):
        self._own_id = own_id
        self._sessions = sessions
        self._limits = limits
        self._boot = os.urandom(16)
        self._last_seq = 0
        # As the arbiter: streams that were offered and are not live yet.
        self._offered: dict[str, Generation] = {}
        # As the follower: the last session seen live.
        self._seen: dict[str, Generation] = {}

    async def settle(
        self, stream: Stream, peer_id: str, address: str, opened_here: bool
    ) -> StreamSession | None:
        """Exchange the first messages; None if another stream is, or becomes, the session."""
        reader = _Reader(stream, self._limits.max_frame_bytes)
        if arbitration.is_arbiter(self._own_id, peer_id):
            agreed = await (
                self._offer(reader, peer_id) if opened_here else self._answer(reader, peer_id)
            )
        else:
            agreed = await (
                self._ask(reader, peer_id) if opened_here else self._follow(reader, peer_id)
            )
        if agreed is None:
            return None
        return StreamSession(
            peer_id,
            address,
            stream,
            reader.decoder,
            reader.early,
            agreed.generation,
            agreed.peer_boot,
            self._limits,
        )

    def remember(self, session: StreamSession) -> None:
        """Note that a session is live: the next `open` to this peer says so."""
        self._seen.pop(session.peer_id, None)
        self._seen[session.peer_id] = session.generation
        if len(self._seen) > _MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]

    # The arbiter

    async def _offer(self, reader: _Reader, peer_id: str) -> _Agreed | None:
        if peer_id in self._sessions or peer_id in self._offered:
            # The follower's own stream came first, while this one was being opened.
            return None
        offer = self._new_generation()
        self._offered[peer_id] = offer
        try:
            await _write(reader.stream, LIVE, arbitration.live_fields(offer))
            opening = _expect_opening(await reader.message())
        finally:
            self._withdraw(peer_id, offer)
        return _Agreed(offer, opening.boot) if self._is_newest(peer_id, offer) else None

    async def _answer(self, reader: _Reader, peer_id: str) -> _Agreed | None:
        opening = _expect_opening(await reader.message())
        session = self._sessions.get(peer_id)
        current, boot = self._offered.get(peer_id), None
        if session is not None and current is None:
            current, boot = session.generation, session.peer_boot
        if not arbitration.arbiter_accepts(current, boot, opening):
            await _write(reader.stream, BUSY, {})
            return None
        offer = self._new_generation()
        self._offered[peer_id] = offer
        try:
            await _write(reader.stream, LIVE, arbitration.live_fields(offer))
        finally:
            self._withdraw(peer_id, offer)
        return _Agreed(offer, opening.boot) if self._is_newest(peer_id, offer) else None

    def _new_generation(self) -> Generation:
        self._last_seq += 1
        return Generation(self._boot, self._last_seq)

    def _withdraw(self, peer_id: str, offer: Generation) -> None:
        if self._offered.get(peer_id) == offer:
            del self._offered[peer_id]

    def _is_newest(self, peer_id: str, offer: Generation) -> bool:
        session = self._sessions.get(peer_id)
        return session is None or offer.seq > session.generation.seq

    # The follower

    async def _ask(self, reader: _Reader, peer_id: str) -> _Agreed | None:
        if peer_id in self._sessions:
            # The arbiter's own stream came first, while this one was being opened.
            return None
        await _write(reader.stream, OPEN, self._opening(peer_id))
        kind, fields = await reader.message()
        if kind == BUSY:
            return None
        return self._followed(peer_id, _expect_live((kind, fields)))

    async def _follow(self, reader: _Reader, peer_id: str) -> _Agreed | None:
        offered = _expect_live(await reader.message())
        if self._followed(peer_id, offered) is None:
            return None
        await _write(reader.stream, OPEN, self._opening(peer_id))
        return self._followed(peer_id, offered)

    def _opening(self, peer_id: str) -> dict[str, Any]:
        return arbitration.opening_fields(self._boot, self._seen.get(peer_id))

    def _followed(self, peer_id: str, offered: Generation) -> _Agreed | None:
        session = self._sessions.get(peer_id)
        current = session.generation if session is not None else None
        if not arbitration.follower_accepts(current, offered):
            return None
        return _Agreed(offered, offered.boot)


async def _write(stream: Stream, kind: str, fields: Mapping[str, Any]) -> None:
    await stream.write(encode_frame((encode_message(kind, fields),)))


def _expect_opening(message: Message) -> Opening:
    opening = arbitration.read_opening(message[1]) if message[0] == OPEN else None
    if opening is None:
        raise FrameError(f"{message[0]!r} where a session begins with {OPEN!r}")
    return opening


def _expect_live(message: Message) -> Generation:
    generation = arbitration.read_live(message[1]) if message[0] == LIVE else None
    if generation is None:
        raise FrameError(f"{message[0]!r} where a session begins with {LIVE!r}")
    return generation
