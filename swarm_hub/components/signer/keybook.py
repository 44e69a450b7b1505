"""Which key is whose: pinned to peers, trusted for orders, followed to their successors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from swarm_hub.components.signer.revocations import Revocations
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import key_id, short_id
from swarm_hub.models.peer_id import is_certified
from swarm_hub.models.rotation import CHAIN_MAX, Rotation, chain_from, chain_to
from swarm_hub.storage import Write
from swarm_hub.storage.queries import keys
from swarm_hub.util.clock import isoformat

# Rotations of trusted keys are kept forever; no owner makes more than this.
_FOLLOWED_MAX: Final = 1024
# Of one peer: a key and those in their overlap.
_CERTIFICATES_MAX: Final = CHAIN_MAX + 1


class KeyBook:
    """The keys of others, as this hub believes them.

    A key is trusted if it is in `signer: trust`, or if a trusted key named it as its successor
    while it was still valid, or if it was introduced by the owner of such a key, for as long as one
    of that owner's own is trusted. A revoked key is never trusted or obeyed. Keys are compared
    whole; their ids are only how they are spoken of.
    """

    def __init__(
        self,
        trust: Iterable[bytes],
        pinned: dict[str, bytes],
        followed: Iterable[Rotation],
        revocations: Revocations,
        now: Callable[[], float],
    ) -> None:
        self._roots = set(trust)
        self._pinned = pinned
        self._followed = {each.old: each for each in followed}
        self._revocations = revocations
        self._now = now
        # The rotation that led to a peer's pinned key, for as long as the old and new keys overlap.
        self._recent = {
            each.peer_id: each
            for each in self._followed.values()
            if pinned.get(each.peer_id) == each.new
        }
        # Key → the key of `signer: trust` whose owner introduced it.
        self._by: Mapping[bytes, bytes] = {}
        # Those of the reached keys that are so only by an introduction.
        self._introduced: set[bytes] = set()
        self._reached = self._reach()
        # peer → key → what the peer's identity says of it
        self._certificates: dict[str, dict[bytes, bytes]] = {}

    def key_of(self, peer_id: str, kid: str) -> bytes | None:
        """Return the peer's key that has this id: its own, or in the overlap the previous one."""
        pinned = self._pinned.get(peer_id)
        if pinned is not None and key_id(pinned) == kid:
            return pinned
        recent = self._recent.get(peer_id)
        if recent is not None and recent.old_kid == kid and recent.overlaps(self._now()):
            return recent.old
        return None

    def trusts(self, public_key: bytes) -> bool:
        """Whether this hub obeys the owner of that key as a worker obeys its gateway."""
        if public_key not in self._reached or self._revocations.of(key_id(public_key)) is not None:
            return False
        successor = self._followed.get(public_key)
        if successor is not None and not successor.overlaps(self._now()):
            return False
        return public_key not in self._introduced or self._stands(self._reached[public_key])

    def root_of(self, public_key: bytes) -> bytes:
        """Return the key of `signer: trust` that trust in this one comes from.

        A successor is the same owner, and has no more rights than the key that it replaces.
        """
        return self._reached.get(public_key, public_key)

    def retired(self) -> list[tuple[bytes, bytes | None]]:
        """Return the keys of `signer: trust` that no longer count, with what counts in their place.

        That is None where no successor is trusted.
        """
        found: list[tuple[bytes, bytes | None]] = []
        for root in self._roots:
            if self.trusts(root):
                continue
            heirs = (key for key, of in self._reached.items() if of == root and self.trusts(key))
            found.append((root, next(heirs, None)))
        return sorted(found, key=lambda each: each[0])

    def ids(self) -> set[str]:
        """Return the ids of all keys that are trusted or pinned, also as version 2 had them."""
        recent = (each.old for each in self._recent.values())
        found = {key_id(each) for each in (*self._reached, *self._pinned.values(), *recent)}
        return found | {short_id(each) for each in found}

    def trust(self, roots: Iterable[bytes]) -> None:
        """Trust these keys, and those that they lead to, from the next envelope on."""
        self._roots = set(roots)
        self._reached = self._reach()

    def introduce(self, by: Mapping[bytes, bytes]) -> None:
        """Trust these keys instead of those introduced before; each by whose word, as `root_of`."""
        self._by = dict(by)
        self._reached = self._reach()

    def replace_root(self, old: bytes, new: bytes) -> None:
        """Trust this hub's own new key in place of its old one."""
        self._roots.discard(old)
        self._roots.add(new)
        self._reached = self._reach()

    def check(self, peer_id: str, public_key: bytes, rotations: Sequence[Rotation]) -> list[Write]:
        """Follow a peer to the key that it shows; returns what to keep.

        Raises SignatureRefusedError for a revoked key, or one to which no known key leads.
        """
        self._revocations.check(key_id(public_key))
        chain = self._valid_end(chain_to(public_key, rotations), peer_id)
        writes = self._follow(chain)
        pinned = self._pinned.get(peer_id)
        if pinned is None or pinned == public_key:
            return writes
        if self.key_of(peer_id, key_id(public_key)) == public_key:
            # Both keys are valid in the overlap; the pin stays with the newer one.
            return writes
        if chain_from(pinned, chain) or self.trusts(public_key):
            self._pinned[peer_id] = public_key
            if chain:
                self._recent[peer_id] = chain[-1]
            return writes
        raise SignatureRefusedError("key_changed", self._why_not(pinned, rotations))

    def certify(
        self, peer_id: str, public_key: bytes, certificate: object, *, anew: bool = False
    ) -> None:
        """Keep a peer's word that a key is its own, for receipts; with `anew` that word alone.

        None is no word; raises SignatureRefusedError for a wrong one.
        """
        if certificate is None:
            return
        if not isinstance(certificate, bytes) or not is_certified(peer_id, public_key, certificate):
            raise SignatureRefusedError(
                "bad_certificate", "its identity has not signed its signing key"
            )
        known = {} if anew else self._certificates.get(peer_id, {})
        newest = list({**known, public_key: certificate}.items())[-_CERTIFICATES_MAX:]
        self._certificates[peer_id] = dict(newest)

    def certificate(self, peer_id: str, public_key: bytes) -> bytes | None:
        """Return a peer's word that a key is its own, None if it has not given it."""
        return self._certificates.get(peer_id, {}).get(public_key)

    def forget_certificates(self, peer_id: str) -> None:
        """Forget the words of a peer that left; its next hello has them again."""
        self._certificates.pop(peer_id, None)

    def pin(self, peer_id: str, public_key: bytes) -> bytes:
        """Bind a key to an admitted peer unless it has one; returns the one that it has."""
        return self._pinned.setdefault(peer_id, public_key)

    def repin(self, peer_id: str, public_key: bytes | None) -> None:
        """Take over what a shared store says is the key of a peer."""
        if public_key is None:
            self.forget_pin(peer_id)
        elif self._pinned.get(peer_id) != public_key:
            self._pinned[peer_id] = public_key
            self._recent.pop(peer_id, None)

    def pinned(self, peer_id: str) -> bytes | None:
        """Return the key of a peer, the newer one in an overlap."""
        return self._pinned.get(peer_id)

    def forget_pin(self, peer_id: str) -> None:
        """Let the peer's next hello pin a key anew."""
        self._pinned.pop(peer_id, None)
        self._recent.pop(peer_id, None)

    def _valid_end(self, chain: list[Rotation], peer_id: str) -> list[Rotation]:
        """Return the valid end of a chain: links of this peer, overlapping, not revoked."""
        now = self._now()
        for place in range(len(chain), 0, -1):
            link = chain[place - 1]
            if (
                link.peer_id != peer_id
                or not link.overlaps(now)
                or self._revocations.of(link.old_kid) is not None
            ):
                return chain[place:]
        return chain

    def _follow(self, chain: Sequence[Rotation]) -> list[Write]:
        """Extend trust along a chain, from the first key in it that is trusted."""
        followed: list[Rotation] = []
        for link in chain:
            if not followed and not self.trusts(link.old):
                continue
            known = self._followed.get(link.old)
            if known is None and len(self._followed) < _FOLLOWED_MAX:
                self._followed[link.old] = link
                followed.append(link)
            elif known is None or known.new != link.new:
                # Of two successors one was named by a thief; the one that was known first stays.
                break
        if not followed:
            return []
        self._reached = self._reach()
        return [keys.rotate(followed)]

    def _reach(self) -> dict[bytes, bytes]:
        """Return every key that trust reaches, and from which of `signer: trust`."""
        reached = {each: each for each in self._roots}
        self._follow_all(reached, list(reached))
        owned = set(reached)
        named = [each for each, root in self._by.items() if root in self._roots - {each}]
        for key in named:
            reached.setdefault(key, self._by[key])
        self._follow_all(reached, named)
        self._introduced = reached.keys() - owned
        return reached

    def _follow_all(self, reached: dict[bytes, bytes], open_ends: list[bytes]) -> None:
        while open_ends:
            key = open_ends.pop()
            link = self._followed.get(key)
            if link is not None and link.new not in reached:
                reached[link.new] = reached[key]
                open_ends.append(link.new)

    def _stands(self, root: bytes) -> bool:
        """Whether a key of `signer: trust`, or one that its owner replaced it by, still counts."""
        return any(
            self.trusts(key)
            for key, of in self._reached.items()
            if of == root and key not in self._introduced
        )

    def _why_not(self, pinned: bytes, rotations: Sequence[Rotation]) -> str:
        for link in rotations:
            if link.old == pinned and not link.overlaps(self._now()):
                return (
                    "its signing key is not the one it had before; it was rotated, and the "
                    f"overlap of both ended {isoformat(link.until)}"
                )
        return "its signing key is not the one it had before"
