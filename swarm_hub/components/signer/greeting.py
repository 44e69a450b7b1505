"""The signed `hello`: binds a signing key to a peer id and tells the other side's clock."""

import math
from collections.abc import Mapping
from typing import Any, Final, Self

from nacl.signing import SigningKey

from swarm_hub.components.mesh import Hello, Mesh
from swarm_hub.core import Hub
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import TYPE_HELLO, canonical, key_id, sign, verify
from swarm_hub.storage import nodes

_NAME_MAX: Final = 64
_SIGNED: Final = ("iss", "aud", "key", "time", "name", "capabilities", "boot_id", "db_id")


class SignedGreeter:
    """Composes and admits hellos; pins the key of each peer at its first admitted hello.

    Admission is open: any peer whose hello is in order is admitted; what it may order is
    decided by trust, envelope by envelope.
    """

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        key: SigningKey,
        trust: tuple[bytes, ...],
        pinned: dict[str, bytes],
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._key = key
        self._public_key = bytes(key.verify_key)
        # A hub that is both gateway and worker obeys itself.
        self._trusted = {key_id(public): public for public in (*trust, self._public_key)}
        self._pinned = pinned
        self._offsets_s: dict[str, float] = {}

    @classmethod
    async def load(cls, hub: Hub, mesh: Mesh, key: SigningKey, trust: tuple[bytes, ...]) -> Self:
        """Read the keys pinned before the last stop."""
        known = await hub.store.read(nodes.all_nodes)
        pinned = {node.peer_id: node.public_key for node in known if node.public_key is not None}
        return cls(hub, mesh, key, trust, pinned)

    def key_of(self, peer_id: str, kid: str) -> bytes | None:
        """Return the key pinned to a peer if it has that id."""
        public_key = self._pinned.get(peer_id)
        return public_key if public_key is not None and key_id(public_key) == kid else None

    def trusts(self, kid: str) -> bool:
        """Whether this hub obeys the owner of that key as a worker obeys its gateway."""
        return kid in self._trusted

    def time_of(self, peer_id: str) -> float:
        """Return what that peer's clock shows now, as far as a trusted hello told."""
        return self._hub.clock.time() + self._offsets_s.get(peer_id, 0.0)

    def compose(self, peer_id: str) -> dict[str, Any]:
        """Return the signed fields of our hello to that peer."""
        fields = {
            "iss": self._mesh.peer_id,
            "aud": peer_id,
            "key": self._public_key,
            "time": self._hub.clock.time(),
            "name": self._hub.name,
            "capabilities": self._mesh.capabilities,
            "boot_id": self._hub.boot_id,
            "db_id": self._hub.store.db_id,
        }
        return {**fields, "sig": sign(self._key, TYPE_HELLO, canonical(fields))}

    def admit(self, peer_id: str, fields: Mapping[str, Any]) -> Hello:
        """Check a hello and pin its key; raises SignatureRefusedError."""
        public_key = _checked(fields, peer_id, self._mesh.peer_id)
        pinned = self._pinned.get(peer_id)
        if pinned is not None and pinned != public_key:
            raise SignatureRefusedError(
                "key_changed",
                "its signing key is not the one it had before; if its owner replaced the key, "
                f"lift the pin with: swarm-hub node unban {peer_id}",
            )
        kid = key_id(public_key)
        self._pinned[peer_id] = public_key
        if self.trusts(kid):
            self._offsets_s[peer_id] = float(fields["time"]) - self._hub.clock.time()
        name = fields["name"][:_NAME_MAX]
        self._hub.store.note([nodes.see(peer_id, name, kid, public_key, self._hub.clock.time())])
        return Hello(
            name, _capabilities(fields["capabilities"]), kid, fields["boot_id"], fields["db_id"]
        )

    def forget_pin(self, peer_id: str) -> None:
        """Let the peer's next hello pin a key anew."""
        self._pinned.pop(peer_id, None)


def _checked(fields: Mapping[str, Any], peer_id: str, me: str) -> bytes:
    try:
        signed = {name: fields[name] for name in _SIGNED}
        public_key, signature = fields["key"], fields["sig"]
    except KeyError as error:
        raise SignatureRefusedError("malformed", f"its hello lacks {error}") from None
    texts = (signed["iss"], signed["aud"], signed["name"], signed["boot_id"], signed["db_id"])
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(public_key, bytes)
        or not isinstance(signature, bytes)
        or not isinstance(signed["time"], float)
        or not math.isfinite(signed["time"])
    ):
        raise SignatureRefusedError("malformed", "its hello has fields of the wrong kind")
    if signed["iss"] != peer_id or signed["aud"] != me:
        raise SignatureRefusedError("relayed", "its hello is from or for somebody else")
    if not verify(public_key, TYPE_HELLO, canonical(signed), signature):
        raise SignatureRefusedError("bad_signature", "the signature of its hello is wrong")
    return public_key


def _capabilities(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    return {
        str(role): dict(properties)
        for role, properties in list(value.items())[:16]
        if isinstance(properties, dict)
    }
