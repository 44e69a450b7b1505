"""Signed messages to and from peers: sealed in batches, checked before anyone acts on them.

Over an express connection, whose keys are bound to the signing keys of both sides, they need no
signature of their own. What must outlive the connection, or leads to it, is signed all the same.
"""

import asyncio
import functools
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from swarm_hub.components.mesh import (
    EXPRESS_ASK,
    EXPRESS_OFFER,
    TICKET,
    Mesh,
    Message,
    PeerDown,
    Proof,
    decode_messages,
    encode_message,
    join_messages,
)
from swarm_hub.components.signer.greeting import SignedGreeter
from swarm_hub.components.signer.keybook import KeyBook
from swarm_hub.components.signer.replay import ReplayCache
from swarm_hub.components.signer.revocations import Revocations
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError, SignatureRefusedError
from swarm_hub.helpers.signing_keys import OwnKey
from swarm_hub.models.envelope import Envelope, seal, unseal
from swarm_hub.models.messages import REVOKED, ROTATED
from swarm_hub.models.receipt import Receipt
from swarm_hub.storage import Write
from swarm_hub.storage.queries import nodes
from swarm_hub.util.apart import apart
from swarm_hub.util.shape import told

_T = TypeVar("_T")

_LOGGER = logging.getLogger(__name__)

# What gets a peer banned: it forges, or it passes on what others signed (DESIGN, section 5).
_BANNED_FOR: Final = frozenset({"bad_signature", "relayed"})
# What is always signed: it is passed on, kept, or there to make a connection.
_ENVELOPED: Final = frozenset({ROTATED, REVOKED, TICKET, EXPRESS_ASK, EXPRESS_OFFER})
_LOGGED_MAX: Final = 20
# Envelopes stay well below the frame limit of 1 MiB.
_BODY_MAX_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of one checked envelope, or those that came together over an express connection.

    `public_key` is the key whose word they are. `writes` must commit together with the batch's
    effect; `replayed` says that the effect already happened, so that the batch only needs to be
    acknowledged again. `receipt` is the envelope itself, for whoever keeps it, None without one.
    `fault` notes what is wrong with one of its messages.
    """

    peer_id: str
    public_key: bytes
    trusted: bool
    replayed: bool
    messages: Sequence[Message]
    writes: list[Write]
    receipt: Receipt | None
    fault: Callable[[str], None]

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the fields of every message of one kind."""
        return [fields for found, fields in self.messages if found == kind]

    def read(self, kind: str, reader: Callable[[Mapping[str, Any]], _T]) -> list[_T]:
        """Return every message of one kind as parsed by `reader`.

        A message for which it raises KeyError, TypeError or ValueError is noted as its sender's
        fault and left out; the others still count.
        """
        found = []
        for fields in self.of(kind):
            try:
                found.append(reader(fields))
            except (KeyError, TypeError, ValueError) as error:
                self.fault(f"a malformed {kind}: {told(error)}")
        return found


@dataclass(slots=True)
class _Waiting:
    """What is to be sent to a peer in this turn of the loop."""

    # (encoded message, whether it needs an envelope)
    messages: list[tuple[bytes, bool]] = field(default_factory=list)
    # What gets envelopes of its own, by what it belongs to.
    apart: dict[str, list[bytes]] = field(default_factory=dict)


class EnvelopeChannel:
    """Sends and receives signed messages.

    Messages to one peer that are queued in one turn of the event loop share an envelope.
    """

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        own: OwnKey,
        greeter: SignedGreeter,
        book: KeyBook,
        revocations: Revocations,
        replay: ReplayCache,
        ttl_s: int,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._own = own
        self._greeter = greeter
        self._book = book
        self._revocations = revocations
        self._replay = replay
        self._ttl_s = ttl_s
        self._waiting: dict[str, _Waiting] = defaultdict(_Waiting)
        self._due: set[str] = set()
        self._handlers: dict[str, list[Callable[[Batch], None]]] = defaultdict(list)
        self.refused: Counter[str] = Counter()
        # peer → how often its refusals were logged in this session
        self._logged: Counter[str] = Counter()
        hub.bus.listen(PeerDown, self._on_peer_down)
        mesh.on("envelope", self._on_envelope)
        # The kinds that may come without an envelope over an express connection.
        self._proven: set[str] = set()
        mesh.take_proven(self._proven, self._on_proven)

    @property
    def public_key(self) -> bytes:
        """The key that workers name in `signer: trust` to obey this hub."""
        return self._own.public_key

    @property
    def kid(self) -> str:
        """The id of that key."""
        return self._own.kid

    def sign_for(self, ttl_s: int) -> None:
        """Have envelopes be valid for so long from now on."""
        self._ttl_s = ttl_s

    def trusts(self, public_key: bytes) -> bool:
        """Whether this hub obeys the owner of that key."""
        return self._book.trusts(public_key)

    def root_of(self, public_key: bytes) -> bytes:
        """Return the key of `signer: trust` that trust in this one comes from."""
        return self._book.root_of(public_key)

    def introduce(self, by: Mapping[bytes, bytes]) -> None:
        """Obey the owners of these keys too, as long as the root that named each is trusted."""
        self._book.introduce(by)

    def on(self, kinds: Sequence[str], handler: Callable[[Batch], None]) -> None:
        """Hand every checked batch with a message of these kinds to `handler`, once."""
        for kind in kinds:
            self._handlers[kind].append(handler)
        self._proven.update(set(kinds) - _ENVELOPED)

    def send(
        self,
        peer_id: str,
        kind: str,
        fields: Mapping[str, Any],
        *,
        within_s: float = 0.0,
        apart: str | None = None,
    ) -> None:
        """Queue a message; a disconnected peer loses it, so the caller must be able to resend.

        With `within_s` it may wait that long to share the envelope of another message. With `apart`
        it is signed by itself whatever it goes over, with others of that name only.
        """
        waiting, message = self._waiting[peer_id], encode_message(kind, fields)
        if apart is None:
            waiting.messages.append((message, kind in _ENVELOPED))
        else:
            waiting.apart.setdefault(apart, []).append(message)
        loop = asyncio.get_running_loop()
        if within_s > 0:
            loop.call_later(within_s, self._flush_peer, peer_id)
        elif peer_id not in self._due:
            self._due.add(peer_id)
            loop.call_soon(self._flush_peer, peer_id)

    def send_alone(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> bytes | None:
        """Send a message in an envelope of its own now.

        Returns the header of the envelope, which names its body by its hash; None if it could not
        be sent.
        """
        envelope = self._sealed(peer_id, join_messages((encode_message(kind, fields),)))
        return envelope.header if self._post(peer_id, envelope) else None

    async def flush(self) -> None:
        """Send what is queued now."""
        for peer_id in tuple(self._waiting):
            self._flush_peer(peer_id)

    async def forget_pin(self, peer_id: str) -> None:
        """Let a peer come back with another signing key; this is on disk when it returns."""
        await self._hub.store.commit([nodes.unpin(peer_id)])
        self._book.forget_pin(peer_id)

    def change_key(self, own: OwnKey) -> list[str]:
        """Announce the new key to every peer, signed by the old one, and use it from then on.

        Envelopes arrive in the order they were sent, so each peer knows the key before it meets
        it. They are told once more by the new key, as only that proves to them who has it. Returns
        the peers that could not be told; they have to greet again.
        """
        rotations = [each.to_wire() for each in own.rotations]
        fields = {"rotations": rotations, "cert": self._greeter.certificate_of(own)}
        peers = self._mesh.peers()
        for peer_id in peers:
            self.send(peer_id, ROTATED, fields)
        untold = [peer_id for peer_id in tuple(self._waiting) if not self._flush_peer(peer_id)]
        self._own = own
        self._greeter.use(own)
        for peer_id in peers:
            self.send(peer_id, ROTATED, fields)
        # What they vouch for is the old key.
        self._mesh.express.renew()
        return untold

    def _flush_peer(self, peer_id: str) -> bool:
        self._due.discard(peer_id)
        if (waiting := self._waiting.pop(peer_id, None)) is None:
            return True
        is_sent, signed = True, waiting.messages
        if self._mesh.express.vouches(peer_id, self._own.public_key):
            bare = [message for message, is_enveloped in signed if not is_enveloped]
            is_sent = not bare or self._post_bare(peer_id, bare)
            signed = [each for each in signed if each[1]]
        for group in ([message for message, _ in signed], *waiting.apart.values()):
            for body in _bodies(group):
                is_sent = self._post(peer_id, self._sealed(peer_id, body)) and is_sent
        return is_sent

    def _sealed(self, peer_id: str, body: bytes) -> Envelope:
        return seal(
            self._own.key,
            kid=self._own.kid,
            iss=self._mesh.peer_id,
            aud=peer_id,
            # In the receiver's time if it is known: a phone's own clock is often wrong.
            now=int(self._greeter.time_of(peer_id)),
            ttl_s=self._ttl_s,
            jti=os.urandom(16),
            body=body,
        )

    def _post(self, peer_id: str, envelope: Envelope) -> bool:
        fields = {"h": envelope.header, "s": envelope.signature, "b": envelope.body}
        try:
            self._mesh.send(peer_id, "envelope", fields)
        except MeshError as error:
            self._not_sent(peer_id, error)
            return False
        return True

    def _post_bare(self, peer_id: str, messages: list[bytes]) -> bool:
        try:
            self._mesh.send_proven(peer_id, messages)
        except MeshError as error:
            self._not_sent(peer_id, error)
            return False
        return True

    def _not_sent(self, peer_id: str, error: MeshError) -> None:
        # A disconnected peer is logged elsewhere; anything else should not go unseen.
        level = logging.DEBUG if peer_id not in self._mesh.peers() else logging.WARNING
        _LOGGER.log(level, "A batch for %s was not sent: %s", peer_id, error)

    def _on_envelope(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        header, signature, body = fields["h"], fields["s"], fields["b"]
        if not all(isinstance(part, bytes) for part in (header, signature, body)):
            raise TypeError("an envelope's parts must be bytes")
        envelope = Envelope(header, signature, body)
        try:
            checked = unseal(
                envelope,
                sender=peer_id,
                me=self._mesh.peer_id,
                key_of=self._book.key_of,
                sender_time=self._greeter.time_of(peer_id),
            )
            self._revocations.check(checked.kid)
            replayed, writes = self._replay.check(checked)
        except SignatureRefusedError as error:
            self._refuse(peer_id, error)
            return
        if replayed:
            self.refused["replayed"] += 1
        try:
            messages = tuple(decode_messages(body))
        except MeshError as error:
            raise ValueError(f"its body is {error}") from None
        receipt = Receipt(
            peer_id, checked.kid, checked.public_key, envelope, self._hub.clock.time(),
            self._book.certificate(peer_id, checked.public_key),
        )  # fmt: skip
        if checked.public_key == self._book.pinned(peer_id):
            # Only now is it certain that a peer has the key that it announced.
            self._mesh.rekey(peer_id, checked.public_key)
        trusted = self._book.trusts(checked.public_key)
        fault = functools.partial(self._mesh.fault, peer_id)
        self._hand_out(
            Batch(peer_id, checked.public_key, trusted, replayed, messages, writes, receipt, fault)
        )

    def _on_proven(self, peer_id: str, proof: Proof, messages: list[Message]) -> None:
        """Take what came over an express connection, as long as its key is the peer's."""
        try:
            self._revocations.check(proof.kid)
            if self._book.key_of(peer_id, proof.kid) != proof.public_key:
                raise SignatureRefusedError(
                    "unknown_key", f"the key {proof.kid} of its connection is not its own any more"
                )
        except SignatureRefusedError as error:
            self._refuse(peer_id, error)
            return
        trusted = self._book.trusts(proof.public_key)
        fault = functools.partial(self._mesh.fault, peer_id)
        self._hand_out(Batch(peer_id, proof.public_key, trusted, False, messages, [], None, fault))

    def _hand_out(self, batch: Batch) -> None:
        heard: set[Callable[[Batch], None]] = set()
        for kind in {kind for kind, _ in batch.messages}:
            if (handlers := self._handlers.get(kind)) is None:
                _LOGGER.debug("%s signed an unknown message %s", batch.peer_id, kind)
            else:
                heard.update(handlers)
        for handler in heard:
            apart(_LOGGER, f"Handling a batch of {batch.peer_id}", handler, batch)

    def _on_peer_down(self, down: PeerDown) -> None:
        del self._logged[down.peer_id]
        self._book.forget_certificates(down.peer_id)

    def _refuse(self, peer_id: str, error: SignatureRefusedError) -> None:
        self.refused[error.code] += 1
        self._logged[peer_id] += 1
        # No single peer may fill the log; all refusals are counted.
        level = logging.WARNING if self._logged[peer_id] <= _LOGGED_MAX else logging.DEBUG
        _LOGGER.log(level, "Refused a batch from %s: %s: %s", peer_id, error.code, error)
        if error.code in _BANNED_FOR:
            self._hub.tasks.spawn(self._mesh.ban(peer_id, f"{error.code}: {error}"), "ban")


def _bodies(messages: list[bytes]) -> list[bytes]:
    """Pack encoded messages into as few CBOR arrays as fit into envelopes."""
    packed: list[list[bytes]] = []
    size = 0
    for message in messages:
        if not packed or size + len(message) > _BODY_MAX_BYTES:
            packed.append([])
            size = 0
        packed[-1].append(message)
        size += len(message)
    return [join_messages(group) for group in packed]
