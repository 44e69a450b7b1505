"""The replay cache: an envelope acts once, also across a restart of this hub."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, Self

from swarm_hub.core import Hub
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import SKEW_S, TTL_MAX_S, Header
from swarm_hub.storage import Write
from swarm_hub.storage.queries import replay_cache
from swarm_hub.storage.queries.replay_cache import Seen

# A peer may send 2,000 envelopes a second. Of one that does, this remembers the newest 8 to 16 s,
# in 8 MB; what is older is refused instead of remembered.
KEPT_PER_ISSUER: Final = 32_768


@dataclass(slots=True)
class _Issuer:
    """The ids of one issuer, with the time when each expires by its clock, and its floor."""

    ids: dict[bytes, float]
    # All of its envelopes that expire by then are refused, known or not.
    floor: float | None = None


class ReplayCache:
    """Envelope ids in memory, each also a row that commits with the envelope's effect."""

    def __init__(self, hub: Hub, known: dict[bytes, Seen], floors: dict[str, float]) -> None:
        self._hub = hub
        self._known = known
        self._issuers: defaultdict[str, _Issuer] = defaultdict(lambda: _Issuer({}))
        for jti, seen in known.items():
            # Those of an earlier version don't say when they expire; they are gone in minutes.
            if seen.valid_until is not None:
                self._issuers[seen.iss].ids[jti] = seen.valid_until
        for iss, floor in floors.items():
            self._issuers[iss].floor = floor

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read the stored ids of envelopes that could still be replayed."""
        known = await hub.store.read(replay_cache.unexpired, hub.clock.time())
        return cls(hub, known, await hub.store.read(replay_cache.floors))

    def check(self, header: Header) -> tuple[bool, list[Write]]:
        """Return whether an envelope was seen before, and the row to commit with its effect.

        Raises SignatureRefusedError when a known id comes with another body or issuer, and for one
        so old that it is not remembered whether it was seen.
        """
        known = self._known.get(header.jti)
        if known is not None:
            if (known.iss, known.body_hash) != (header.iss, header.body_hash):
                raise SignatureRefusedError("jti_reused", "its id belongs to another envelope")
            return True, []
        issuer = self._issuers[header.iss]
        if issuer.floor is not None and header.exp <= issuer.floor:
            raise SignatureRefusedError(
                "expired", f"it is older than the newest {KEPT_PER_ISSUER} of its issuer"
            )
        # Kept as long as a clock within the allowed skew could still accept it.
        keep_until = self._hub.clock.time() + TTL_MAX_S + 2 * SKEW_S
        seen = Seen(header.iss, header.body_hash, keep_until, float(header.exp))
        self._known[header.jti] = seen
        issuer.ids[header.jti] = float(header.exp)
        row = replay_cache.remember(
            header.jti, header.iss, header.body_hash, keep_until, seen.valid_until
        )
        return False, [row, *self._drop_older(header.iss)]

    def _drop_older(self, iss: str) -> list[Write]:
        """Forget the older half of too many ids of one issuer; all as old are refused from now."""
        issuer = self._issuers[iss]
        if len(issuer.ids) <= KEPT_PER_ISSUER:
            return []
        issuer.floor = floor = sorted(issuer.ids.values())[len(issuer.ids) // 2]
        for jti in [jti for jti, valid_until in issuer.ids.items() if valid_until <= floor]:
            self._forget(jti)
        return replay_cache.raise_floor(iss, floor)

    def _forget(self, jti: bytes) -> None:
        issuer = self._issuers[self._known.pop(jti).iss]
        issuer.ids.pop(jti, None)

    async def forget_expired(self) -> None:
        """Drop ids that the expiry check refuses anyway."""
        now = self._hub.clock.time()
        if not self._hub.clock.is_settled:
            # After a jump they may look older than they are.
            return
        expired = [jti for jti, seen in self._known.items() if seen.keep_until < now]
        for jti in expired:
            self._forget(jti)
        for iss in [iss for iss, each in self._issuers.items() if not each.ids]:
            if self._issuers[iss].floor is None:
                del self._issuers[iss]
        if expired:
            await self._hub.store.commit([replay_cache.forget_expired(now)])
