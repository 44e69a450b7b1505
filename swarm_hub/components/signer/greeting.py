"""The signed `hello`: binds a signing key to a peer id and tells the other side's clock."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from swarm_hub.components.mesh import Hello, Mesh
from swarm_hub.components.signer.admission import Admission
from swarm_hub.components.signer.keybook import KeyBook
from swarm_hub.core import Hub
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.helpers.signing_keys import OwnKey
from swarm_hub.models.envelope import TYPE_HELLO, canonical, key_id, sign, verify
from swarm_hub.models.rotation import read_rotations
from swarm_hub.storage.queries import nodes
from swarm_hub.util.bounds import is_text
from swarm_hub.util.shape import storable

_NAME_MAX: Final = 64
_ID_MAX_CHARS: Final = 200
# In the year 5138; NaN is above it, too.
_TIME_MAX: Final = 1e11
_SIGNED: Final = ("iss", "aud", "key", "time", "name", "capabilities", "boot_id", "db_id")


class SignedGreeter:
    """Composes hellos and checks those of others; pins the key of each admitted peer."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        own: OwnKey,
        book: KeyBook,
        admission: Admission,
        tokens: Mapping[str, bytes],
        certify: Callable[[bytes], bytes],
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._own = own
        self._book = book
        self._admission = admission
        self._tokens = tokens
        self._certify = certify
        self._offsets_s: dict[str, float] = {}

    def use(self, own: OwnKey) -> None:
        """Sign with another key from now on."""
        self._own = own

    def certificate_of(self, own: OwnKey) -> bytes:
        """Return this hub's identity's word that a signing key is its own."""
        return self._certify(own.public_key)

    def time_of(self, peer_id: str) -> float:
        """Return that peer's steady time, according to its last trusted hello.

        It is the time of that hello and what has passed since: no clock that is set anew on either
        side moves it.
        """
        return self._hub.clock.steady() + self._offsets_s.get(peer_id, 0.0)

    def compose(self, peer_id: str) -> dict[str, Any]:
        """Return the fields of our hello to that peer."""
        return signed_hello(
            self._own,
            {
                "iss": self._mesh.peer_id,
                "aud": peer_id,
                "time": self._hub.clock.steady(),
                "name": self._hub.name,
                "capabilities": self._mesh.capabilities,
                "boot_id": self._hub.boot_id,
                "db_id": self._hub.store.shown_id(peer_id),
            },
            self._certify,
            self._tokens.get(peer_id),
            self._hub.clock.time(),
        )

    async def check(self, peer_id: str, fields: Mapping[str, Any]) -> Hello:
        """Return who a peer is according to its hello; raises SignatureRefusedError."""
        public_key = _checked(fields, peer_id, self._mesh.peer_id)
        capabilities = _capabilities(fields["capabilities"])
        if self._hub.store.shared:
            # Another gateway may have met this peer first, followed it, or lifted its pin.
            self._book.repin(peer_id, await self._hub.store.read(nodes.pinned, peer_id))
        try:
            rotations = read_rotations(fields.get("rotations", []))
            writes = self._book.check(peer_id, public_key, rotations)
        except SignatureRefusedError as error:
            if error.code != "key_changed":
                raise
            raise SignatureRefusedError(
                error.code, f"{error}; {self._way_out(peer_id, capabilities, public_key)}"
            ) from None
        self._hub.store.note(writes)
        self._book.certify(peer_id, public_key, fields.get("cert"), anew=True)
        return Hello(
            storable(fields["name"], "name", _NAME_MAX),
            capabilities,
            public_key,
            fields["boot_id"],
            fields["db_id"],
        )

    async def admit(self, peer_id: str, fields: Mapping[str, Any], hello: Hello) -> Hello:
        """Return the role in which a checked peer is admitted; raises SignatureRefusedError.

        A gateway that this hub obeys is admitted as a gateway even if it may not be a node of ours.
        """
        public_key = fields["key"]
        if self._is_applicant(peer_id, hello):
            try:
                await self._admission.admit(peer_id, hello, public_key, fields.get("token"))
            except SignatureRefusedError:
                others = {k: v for k, v in hello.capabilities.items() if k != "worker"}
                hello = replace(hello, capabilities=others)
                if not (self._mesh.wants(hello) and self._book.trusts(public_key)):
                    raise
        # In an overlap it may have shown the old key, which a thief may have as well.
        pinned = self._book.pin(peer_id, public_key)
        now = self._hub.clock.time()
        if self._book.trusts(public_key):
            self._offsets_s[peer_id] = float(fields["time"]) - self._hub.clock.steady()
        seen = nodes.see(peer_id, hello.name, key_id(pinned), pinned, now)
        if self._hub.store.shared:
            # Before anything else, so that the next gateway which it greets knows its newest key.
            await self._hub.store.commit([seen])
        else:
            self._hub.store.note([seen])
        return hello

    def _is_applicant(self, peer_id: str, hello: Hello) -> bool:
        return (
            peer_id != self._mesh.peer_id
            and "gateway" in self._mesh.capabilities
            and "worker" in hello.capabilities
        )

    def _way_out(self, peer_id: str, capabilities: Mapping[str, Any], public_key: bytes) -> str:
        if "worker" in self._mesh.capabilities and "gateway" in capabilities:
            return (
                f"if its owner confirms it, put the new key {public_key.hex()} into signer: trust"
            )
        return f"if its owner replaced the key, lift the pin with: swarm-hub node unban {peer_id}"


def signed_hello(
    own: OwnKey,
    said: Mapping[str, Any],
    certify: Callable[[bytes], bytes],
    token: bytes | None,
    now: float,
) -> dict[str, Any]:
    """Return the fields of a hello that says this, signed, and what goes with it unsigned."""
    signed = {**said, "key": own.public_key}
    fields = {
        **signed,
        "sig": sign(own.key, TYPE_HELLO, canonical(signed)),
        "cert": certify(own.public_key),
    }
    # Not signed: the token is a secret between two peers that the connection has proven, and a
    # rotation is signed by the key that it replaces.
    if token is not None:
        fields["token"] = token
    if rotations := [each.to_wire() for each in own.rotations if each.overlaps(now)]:
        fields["rotations"] = rotations
    return fields


def _checked(fields: Mapping[str, Any], peer_id: str, me: str) -> bytes:
    try:
        signed = {name: fields[name] for name in _SIGNED}
        public_key, signature = fields["key"], fields["sig"]
    except KeyError as error:
        raise SignatureRefusedError("malformed", f"its hello lacks {error}") from None
    texts = (signed["iss"], signed["aud"], signed["boot_id"], signed["db_id"])
    if (
        not all(is_text(text, _ID_MAX_CHARS) for text in texts)
        or not isinstance(signed["name"], str)
        or not isinstance(public_key, bytes)
        or not isinstance(signature, bytes)
        or not isinstance(signed["time"], float)
        or not 0 <= signed["time"] <= _TIME_MAX
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
