"""Peers that flood or send faulty messages: cut off, and banned for a while at the third flood."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from swarm_hub.components.mesh.peers.bans import BanList
from swarm_hub.components.mesh.peers.peer import Peer
from swarm_hub.core import Hub
from swarm_hub.util.token_bucket import TokenBucket

_LOGGER = logging.getLogger(__name__)

_Disconnect = Callable[[str, str], Coroutine[Any, Any, None]]

_STRIKES: Final = 3
_WITHIN_S: Final = 600.0
BANNED_FOR_S: Final = 600.0
# Checking an envelope's signature takes a tenth of a millisecond, while replaying one costs its
# sender nothing. Honest hubs batch: each of their envelopes stands for a commit.
_ENVELOPES_PER_S: Final = 2000.0
_ENVELOPES_BURST_S: Final = 2.0
# A peer of another version may err now and then; no single peer may fill the log.
_FAULTS_TOLD: Final = 5
_FAULTS_MAX: Final = 200
# Beyond this many peers the oldest strikes are forgotten.
_REMEMBERED_MAX: Final = 1024


class Floods:
    """Counts how often each peer was disconnected for flooding."""

    def __init__(
        self, hub: Hub, bans: BanList, disconnect: _Disconnect, gossip_per_s: float
    ) -> None:
        self._hub = hub
        self._gossip_per_s = gossip_per_s
        self._bans = bans
        self._disconnect = disconnect
        self._envelopes: dict[str, TokenBucket] = {}
        self._gossip: dict[str, TokenBucket] = {}
        # Peers whose session is being ended; what they still send is ignored.
        self._let_go: set[str] = set()
        self._strikes: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_STRIKES))

    def forget(self, peer_id: str) -> None:
        """Forget the rate allowance of a peer that disconnected."""
        self._envelopes.pop(peer_id, None)
        self._gossip.pop(peer_id, None)
        self._let_go.discard(peer_id)

    def takes_envelope(self, peer_id: str) -> bool:
        """Whether to check another envelope of this peer; one beyond its rate ends the session."""
        now = self._hub.clock.monotonic()
        bucket = self._envelopes.get(peer_id)
        if bucket is None:
            bucket = TokenBucket(_ENVELOPES_PER_S, _ENVELOPES_BURST_S, now)
            self._envelopes[peer_id] = bucket
        bucket.take(1, now)
        if bucket.debt_s(now) <= 0:
            return True
        self._let_go_of(peer_id, f"flooding: more than {_ENVELOPES_PER_S:.0f} envelopes a second")
        return False

    def takes_gossip(self, peer_id: str) -> bool:
        """Whether to heed another gossip message of this peer; it may be lost."""
        now = self._hub.clock.monotonic()
        bucket = self._gossip.get(peer_id)
        if bucket is None:
            bucket = self._gossip[peer_id] = TokenBucket(self._gossip_per_s, 1.0, now)
        if bucket.debt_s(now) > 0:
            return False
        bucket.take(1, now)
        return True

    def fault(self, peer_id: str, peer: Peer, what: str) -> None:
        """Note what is wrong with a message; a peer that keeps sending such ones is cut off."""
        peer.faults += 1
        if peer.faults <= _FAULTS_TOLD:
            _LOGGER.warning("%s sent %s", peer_id, what)
        elif peer.faults == _FAULTS_MAX:
            self._let_go_of(peer_id, f"{_FAULTS_MAX} wrong messages, the last was {what}")

    def lets_go(self, peer_id: str) -> bool:
        """Whether this peer's session is being ended, so that nothing it says counts."""
        return peer_id in self._let_go

    def _let_go_of(self, peer_id: str, reason: str) -> None:
        self._let_go.add(peer_id)
        self.strike(peer_id, reason)
        self._hub.tasks.spawn(self._disconnect(peer_id, reason), "let go of a peer")

    def strike(self, peer_id: str, reason: str) -> None:
        """Note a flood, or too many faults; a peer that resumes it is banned."""
        now = self._hub.clock.monotonic()
        strikes = self._strikes.pop(peer_id, None) or deque(maxlen=_STRIKES)
        strikes.append(now)
        self._strikes[peer_id] = strikes
        if len(self._strikes) > _REMEMBERED_MAX:
            del self._strikes[next(iter(self._strikes))]
        _LOGGER.warning("Let go of %s: %s", peer_id, reason)
        if len(strikes) == _STRIKES and now - strikes[0] <= _WITHIN_S:
            del self._strikes[peer_id]
            until = self._hub.clock.time() + BANNED_FOR_S
            self._hub.tasks.spawn(self._bans.add(peer_id, reason, until), "ban a flooder")
