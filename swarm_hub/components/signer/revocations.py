"""Keys that are no longer valid: a list that only grows, sent to every node that obeys this hub."""

import logging
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Self

from swarm_hub.core import Hub
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.helpers.signing_keys import REASON_MAX
from swarm_hub.models.envelope import is_kid, key_id, short_id
from swarm_hub.models.rotation import Revocation
from swarm_hub.storage.queries import keys

_LOGGER = logging.getLogger(__name__)

# Of one trusted key; none is forgotten to make room, or old keys would become valid again. As each
# has its own room, none can crowd out what another orders.
PER_ISSUER_MAX: Final = 4096
PER_MESSAGE: Final = 512
# An entry has exactly these fields: a revocation might depend on a field that a later version adds.
_FIELDS: Final = 3


class Revocations:
    """The revoked keys that this hub knows of; none can be taken out."""

    def __init__(self, known: Iterable[Revocation]) -> None:
        self._known = {each.kid: each for each in known}
        self._heard = Counter(each.issuer for each in self._known.values())
        self._crowded: set[str] = set()
        self._listeners: list[Callable[[list[Revocation]], None]] = []

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read the revocations that were known before the last stop."""
        return cls(await hub.store.read(keys.revoked))

    def of(self, kid: str) -> Revocation | None:
        """Return the revocation of a key, None while the key is valid."""
        # Those of version 2 name half of an id.
        return self._known.get(kid) or self._known.get(short_id(kid))

    def check(self, kid: str) -> None:
        """Raise SignatureRefusedError for a revoked key."""
        if (found := self.of(kid)) is not None:
            why = f": {found.reason}" if found.reason else ""
            raise SignatureRefusedError("revoked", f"its signing key {kid} is revoked{why}")

    def all(self) -> list[Revocation]:
        """Return every known revocation: those ordered here, then the others, oldest first."""
        order = operator.attrgetter("revoked_at")
        return sorted(self._known.values(), key=lambda each: (each.issuer is not None, order(each)))

    def on_new(self, listener: Callable[[list[Revocation]], None]) -> None:
        """Have `listener` called with revocations that were not known before."""
        self._listeners.append(listener)

    def unknown(self, revocations: Iterable[Revocation]) -> list[Revocation]:
        """Return those that are not known yet."""
        new = {each.kid: each for each in revocations if each.kid not in self._known}
        return list(new.values())

    def unknown_of(
        self, issuer: bytes, revocations: Iterable[Revocation], in_use: Callable[[], set[str]]
    ) -> list[Revocation]:
        """Return those that are not known yet, of a trusted key that orders them elsewhere.

        There is room for so many of each such key, and always for ids that are `in_use`.
        """
        name = issuer.hex()
        new = [replace(each, issuer=name) for each in self.unknown(revocations)]
        room = max(0, PER_ISSUER_MAX - self._heard[name])
        if len(new) <= room:
            return new
        if name not in self._crowded:
            self._crowded.add(name)
            _LOGGER.error(
                "%d revoked keys of %s are known; of others only those that are in use here count",
                PER_ISSUER_MAX,
                key_id(issuer),
            )
        used = in_use()
        return new[:room] + [each for each in new[room:] if each.kid in used]

    def add(self, new: list[Revocation]) -> None:
        """Treat these keys as revoked from now on."""
        if not new:
            return
        self._known.update((each.kid, each) for each in new)
        self._heard.update(each.issuer for each in new)
        for each in new:
            _LOGGER.warning("Key %s is revoked: %s", each.kid, each.reason or "no reason given")
        for listener in self._listeners:
            listener(new)


def to_wire(revocations: Iterable[Revocation]) -> list[list[Any]]:
    """Return the fields that `from_wire` reads."""
    return [[each.kid, float(each.revoked_at), each.reason] for each in revocations]


def from_wire(fields: Mapping[str, Any]) -> list[Revocation]:
    """Read the revoked keys of a message; raises KeyError or ValueError for anything else."""
    listed = fields["keys"]
    if not isinstance(listed, list) or len(listed) > PER_MESSAGE:
        raise ValueError(f"expected a list of at most {PER_MESSAGE} revoked keys")
    found = []
    for entry in listed:
        if not isinstance(entry, list) or len(entry) != _FIELDS:
            raise ValueError("a revoked key is exactly [kid, time, reason]")
        kid, revoked_at, reason = entry
        if (
            not isinstance(kid, str)
            or not is_kid(kid)
            or not isinstance(revoked_at, float)
            or not math.isfinite(revoked_at)
            or not isinstance(reason, str)
        ):
            raise ValueError("a revoked key is exactly [kid, time, reason]")
        shown = "".join(filter(str.isprintable, reason))[:REASON_MAX]
        found.append(Revocation(kid, revoked_at, shown))
    return found
