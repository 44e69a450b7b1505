"""Peers that flood or send what is wrong: let go, and the third flood bans them for a while."""

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
# Checking the signature of an envelope takes a tenth of a millisecond, and one that is replayed
# costs its sender nothing. Honest hubs batch: each of their envelopes stands for a commit.
_ENVELOPES_PER_S: Final = 2000.0
_ENVELOPES_BURST_S: Final = 2.0
# A peer of another version may be wrong now and then; the log is not to be filled by one.
_FAULTS_TOLD: Final = 5
_FAULTS_MAX: Final = 200
# Of more peers than this the oldest strikes are forgotten.
_REMEMBERED_MAX: Final = 1024


class Floods:
    """Counts how often each peer was let go for flooding."""

    def __init__(self, hub: Hub, bans: BanList, disconnect: _Disconnect) -> None:
        self._hub = hub
        self._bans = bans
        self._disconnect = disconnect
        self._envelopes: dict[str, TokenBucket] = {}
        # Whose session is being ended; what still comes from it is not looked at.
        self._let_go: set[str] = set()
        self._strikes: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_STRIKES))

    def forget(self, peer_id: str) -> None:
        """Forget what a peer that left had left of its rate."""
        self._envelopes.pop(peer_id, None)
        self._let_go.discard(peer_id)

    def takes_envelope(self, peer_id: str) -> bool:
        """Whether another envelope of this peer is looked at; one beyond its rate ends it."""
        now = self._hub.clock.monotonic()
        bucket = self._envelopes.get(peer_id)
        if bucket is None:
            bucket = TokenBucket(_ENVELOPES_PER_S, _ENVELOPES_BURST_S, now)
            self._envelopes[peer_id] = bucket
        if peer_id in self._let_go:
            return False
        bucket.take(1, now)
        if bucket.debt_s(now) <= 0:
            return True
        self._let_go.add(peer_id)
        reason = f"flooding: more than {_ENVELOPES_PER_S:.0f} envelopes a second"
        self.strike(peer_id, reason)
        self._hub.tasks.spawn(self._disconnect(peer_id, reason), "let go of a flooder")
        return False

    def fault(self, peer_id: str, peer: Peer, what: str) -> None:
        """Note what is wrong with a message; a peer that sends nothing else is let go."""
        peer.faults += 1
        if peer.faults <= _FAULTS_TOLD:
            _LOGGER.warning("%s sent %s", peer_id, what)
        elif peer.faults == _FAULTS_MAX:
            reason = f"{_FAULTS_MAX} wrong messages, the last was {what}"
            self._hub.tasks.spawn(self._disconnect(peer_id, reason), "let go of a peer")

    def strike(self, peer_id: str, reason: str) -> None:
        """Note a flood; a peer that goes on with it after it was let go is banned."""
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
