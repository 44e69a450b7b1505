"""Keys over a hub's life: its own may be rotated, any may be revoked, and others are told."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from swarm_hub.components.mesh import Mesh, PeerUp
from swarm_hub.components.signer.envelope_channel import Batch, EnvelopeChannel
from swarm_hub.components.signer.keybook import KeyBook
from swarm_hub.components.signer.revocations import PER_MESSAGE, Revocations, from_wire, to_wire
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, SignatureRefusedError
from swarm_hub.helpers.signing_keys import KeyFiles, OwnKey
from swarm_hub.models.messages import REVOKED, ROTATED
from swarm_hub.models.rotation import Revocation, chain_from, read_rotations
from swarm_hub.storage import Write
from swarm_hub.storage.queries import keys, nodes

_LOGGER = logging.getLogger(__name__)

# A command that wrote tells so; this is for files that were put there otherwise.
_LOOK_EVERY_S: Final = 60.0
# On a shared store another gateway's administrator may have revoked a key.
_LOOK_SHARED_EVERY_S: Final = 10.0


class KeyWatch:
    """Applies what commands wrote, and exchanges rotations and revocations with others."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        book: KeyBook,
        revocations: Revocations,
        files: KeyFiles,
        own: OwnKey,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._book = book
        self._revocations = revocations
        self._files = files
        self._own = own
        self._stamp: tuple[object, ...] = ()
        self._lock = asyncio.Lock()
        self._complaint = ""
        hub.bus.listen(PeerUp, self._on_peer_up)
        revocations.on_new(self._on_revoked)
        channel.on((ROTATED,), self._on_rotated)
        channel.on((REVOKED,), self._on_list)

    def start(self) -> None:
        """Look regularly."""
        every_s = _LOOK_SHARED_EVERY_S if self._hub.store.shared else _LOOK_EVERY_S
        self._hub.tasks.every(every_s, self.look, "signing keys")

    async def look(self) -> None:
        """Apply what changed in the files, and in a store that others write to."""
        if self._hub.store.shared:
            self._revocations.add(
                self._revocations.unknown(await self._hub.store.ask(keys.revoked))
            )
        async with self._lock:
            await self._read_files()

    async def reload(self, _arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the command `reload_keys`: what was written counts when it is answered."""
        await self.look()
        return {}

    async def _read_files(self) -> None:
        stamp = await asyncio.to_thread(self._files.stamp)
        if stamp == self._stamp:
            return
        try:
            own = await asyncio.to_thread(self._files.own, self._hub.clock.time())
            ordered = await asyncio.to_thread(self._files.revoked)
        except (HubError, OSError) as error:
            self._complain(f"The signing keys can't be read again: {error}")
            return
        new = self._revocations.unknown(ordered)
        self._keep([keys.revoke(new)])
        self._revocations.add(new)
        self._take_up(own)
        self._stamp = stamp

    def _take_up(self, own: OwnKey) -> None:
        if own.public_key == self._own.public_key:
            return
        if not chain_from(self._own.public_key, own.rotations):
            self._complain(
                "The signing key was replaced by one that no rotation leads to; it counts from "
                "the next start. To change it without a loss: swarm-hub key rotate"
            )
            return
        untold = self._channel.change_key(own)
        self._book.replace_root(self._own.public_key, own.public_key)
        _LOGGER.info("Signing with key %s in place of %s", own.kid, self._own.kid)
        self._own = own
        for peer_id in untold:
            self._disconnect(peer_id, "the signing key was rotated: greet again")

    def _on_rotated(self, batch: Batch) -> None:
        for wire, certificate in batch.read(ROTATED, _rotated):
            try:
                rotations = read_rotations(wire)
                if not rotations:
                    continue
                newest, before = rotations[-1], self._book.pinned(batch.peer_id)
                self._book.certify(batch.peer_id, newest.new, certificate)
                writes = self._book.check(batch.peer_id, newest.new, rotations)
            except SignatureRefusedError as error:
                _LOGGER.warning("Refused a key rotation of %s: %s", batch.peer_id, error)
                self._disconnect(batch.peer_id, str(error))
                continue
            if newest.new == self._book.pinned(batch.peer_id) != before:
                writes.append(nodes.pin(batch.peer_id, newest.new_kid, newest.new))
                _LOGGER.info("%s signs with key %s from now on", batch.peer_id, newest.new_kid)
            self._keep([*batch.writes, *writes])

    def _on_list(self, batch: Batch) -> None:
        if not batch.trusted:
            _LOGGER.warning("Refused revocations of %s: its key is not trusted", batch.peer_id)
            return
        heard = [each for listed in batch.read(REVOKED, from_wire) for each in listed]
        issuer = self._book.root_of(batch.public_key)
        new = self._revocations.unknown_of(issuer, heard, self._book.ids)
        self._keep([*batch.writes, keys.revoke(new)])
        self._revocations.add(new)

    def _on_revoked(self, new: list[Revocation]) -> None:
        if self._revocations.of(self._own.kid) is not None:
            _LOGGER.error(
                "The signing key of this hub, %s, is revoked: nobody heeds it any more. Make "
                "another: stop the hub, delete its signer.key, start it, and let the others know",
                self._own.kid,
            )
        for peer_id, hello in self._mesh.peers().items():
            if hello.kid is not None and self._revocations.of(hello.kid) is not None:
                self._disconnect(peer_id, f"its signing key {hello.kid} is revoked")
            else:
                self._tell(peer_id, new)

    def _on_peer_up(self, up: PeerUp) -> None:
        self._tell(up.peer_id, self._revocations.all())

    def _tell(self, peer_id: str, revocations: list[Revocation]) -> None:
        """Pass a list on to a node of this gateway, which obeys this hub's signature."""
        hello = self._mesh.peers().get(peer_id)
        if (
            hello is None
            or peer_id == self._mesh.peer_id
            or "gateway" not in self._mesh.capabilities
            or "worker" not in hello.capabilities
        ):
            return
        for start in range(0, len(revocations), PER_MESSAGE):
            part = to_wire(revocations[start : start + PER_MESSAGE])
            self._channel.send(peer_id, REVOKED, {"keys": part})

    def _keep(self, writes: list[Write]) -> None:
        """Write what already took effect, however long a full disk or a lost server takes."""
        if any(write.rows for write in writes):
            self._hub.tasks.spawn(self._hub.store.commit_when_possible(writes), "keep keys")

    def _disconnect(self, peer_id: str, reason: str) -> None:
        self._hub.tasks.spawn(self._mesh.disconnect(peer_id, reason), "part from a peer")

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _LOGGER.error("%s", text)


def _rotated(fields: Mapping[str, Any]) -> tuple[object, object]:
    return fields["rotations"], fields.get("cert")
