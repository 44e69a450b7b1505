"""Heartbeats: who is still there, how long a message takes, and who is considered gone."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from swarm_hub.components.mesh.peers.peer import Peer
from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.util.clock import Clock

_MISSED_BEATS: Final = 3
# How often at most to look for silence, which is noticed right after the third missed beat.
LOOKS_A_BEAT: Final = 5
_HELLO_TIMEOUT_S: Final = 10.0
# Heartbeats come every few seconds; a peer that sends them constantly gets no more echoes.
_ECHO_EVERY_S: Final = 0.01

_Say = Callable[[Session, str, Mapping[str, Any]], None]


class Heartbeats:
    """Beats on every session of an admitted peer; reports those without an answer or a hello."""

    def __init__(
        self, peers: Mapping[str, Peer], clock: Clock, interval_s: float, say: _Say
    ) -> None:
        self._peers = peers
        self._clock = clock
        self.silent_s = _MISSED_BEATS * interval_s
        self._say = say

    def beat(self) -> None:
        """Send a heartbeat to each admitted peer."""
        now = self._clock.monotonic()
        for peer in list(self._peers.values()):
            if peer.hello is not None:
                for session in peer.heard:
                    self._say(session, "heartbeat", {"t": now})

    def lost(self) -> list[tuple[Session, str]]:
        """Return (session, why) for the sessions to close."""
        now = self._clock.monotonic()
        lost: list[tuple[Session, str]] = []
        for peer in self._peers.values():
            for session, heard_at in peer.heard.items():
                if now - heard_at > self.silent_s:
                    lost.append((session, "silent: missed its heartbeats"))
                elif peer.hello is None and now - peer.connected_at > _HELLO_TIMEOUT_S:
                    lost.append((session, "never said hello"))
        return lost

    def left_s(self) -> float | None:
        """Return for how long none of them will be lost, None while there are none."""
        ends: list[float] = []
        for peer in self._peers.values():
            ends += (heard_at + self.silent_s for heard_at in peer.heard.values())
            if peer.hello is None:
                ends.append(peer.connected_at + _HELLO_TIMEOUT_S)
        return min(ends) - self._clock.monotonic() if ends else None

    def on_heartbeat(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Answer a heartbeat, or measure the round trip of ours."""
        if "t" in fields:
            peer, now = self._peers[peer_id], self._clock.monotonic()
            if now - peer.echoed_at < _ECHO_EVERY_S:
                return
            peer.echoed_at = now
            self._say(peer.session, "heartbeat", {"echo": fields["t"]})
        elif isinstance(sent := fields["echo"], float):
            self._peers[peer_id].rtt_s = max(0.0, self._clock.monotonic() - sent)
