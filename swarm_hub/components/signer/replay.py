"""The replay cache: an envelope acts once, also across a restart of this hub."""

from typing import Self

from swarm_hub.core import Hub
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import SKEW_S, TTL_MAX_S, Header
from swarm_hub.storage import Write
from swarm_hub.storage.queries import replay_cache


class ReplayCache:
    """Envelope ids in memory, each also a row that commits with the envelope's effect."""

    def __init__(self, hub: Hub, known: dict[bytes, tuple[str, bytes, float]]) -> None:
        self._hub = hub
        self._known = known

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read the stored ids of envelopes that could still be replayed."""
        return cls(hub, await hub.store.read(replay_cache.unexpired, hub.clock.time()))

    def check(self, header: Header) -> tuple[bool, list[Write]]:
        """Return whether an envelope was seen before, and the row to commit with its effect.

        Raises SignatureRefusedError when a known id comes with another body or issuer.
        """
        known = self._known.get(header.jti)
        if known is not None:
            if known[:2] != (header.iss, header.body_hash):
                raise SignatureRefusedError("jti_reused", "its id belongs to another envelope")
            return True, []
        # Kept as long as a clock within the allowed skew could still accept it.
        keep_until = self._hub.clock.time() + TTL_MAX_S + 2 * SKEW_S
        self._known[header.jti] = (header.iss, header.body_hash, keep_until)
        return False, [replay_cache.remember(header.jti, header.iss, header.body_hash, keep_until)]

    async def forget_expired(self) -> None:
        """Drop ids that the expiry check refuses anyway."""
        now = self._hub.clock.time()
        if not self._hub.clock.is_settled:
            # After a jump they may look older than they are.
            return
        expired = [jti for jti, (_, _, until) in self._known.items() if until < now]
        for jti in expired:
            del self._known[jti]
        if expired:
            await self._hub.store.commit([replay_cache.forget_expired(now)])
