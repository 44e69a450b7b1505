"""Hubs of this process that speak as a later version would: more in every map, more behind records.

    spoken = speak_later(monkeypatch, {swarm.keys("gateway")[0]: key})

What a hub sends is rewritten where it arrives, on the loopback, and signed anew with its key where
it was signed. `spoken` counts what was rewritten, by kind.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import cbor2

from swarm_hub.components.mesh.transports.loopback import LoopbackSession, LoopbackTransport
from swarm_hub.models.envelope import TYPE_BATCH, TYPE_HELLO, canonical, sign
from swarm_hub.util.ed25519 import SigningKey

if TYPE_CHECKING:
    import pytest

ADDED: Final = {"later": {"deep": [1, [b"2"], {"3": None}]}, "later too": 1.5}
BEHIND: Final = (None, "later", {"more": [1]})
_SIGNED: Final = ("iss", "aud", "key", "time", "name", "capabilities", "boot_id", "db_id")
_LENGTH_BYTES: Final = 4
# An envelope with one of these is bound to the keys of what it leads to.
_BOUND: Final = ("express_ask", "express_offer")


def speak_later(monkeypatch: "pytest.MonkeyPatch", keys: Mapping[str, SigningKey]) -> Counter[str]:
    """Have the hubs with these peer ids speak so from now on; returns what they will have said."""
    spoken: Counter[str] = Counter()
    arrived, gossiped = LoopbackSession._arrived, LoopbackTransport._gossip

    def arrive(self: Any, frame: bytes) -> None:
        if (key := keys.get(self.peer_id)) is not None:
            messages = cbor2.loads(frame[_LENGTH_BYTES:])
            body = cbor2.dumps([later_message(each, key, spoken) for each in messages])
            frame = len(body).to_bytes(_LENGTH_BYTES, "big") + body
        arrived(self, frame)

    def gossip(self: Any, source: str, topic: str, payload: bytes) -> None:
        if source in keys:
            spoken["gossip"] += 1
            payload = cbor2.dumps({**cbor2.loads(payload), **ADDED})
        gossiped(self, source, topic, payload)

    monkeypatch.setattr(LoopbackSession, "_arrived", arrive)
    monkeypatch.setattr(LoopbackTransport, "_gossip", gossip)
    return spoken


def later_message(message: list[Any], key: SigningKey, spoken: Counter[str]) -> list[Any]:
    """Return a message with everything that a later version may add to it."""
    kind, fields = message
    spoken[kind] += 1
    if kind == "hello":
        fields = _hello(fields, key)
    elif kind == "envelope":
        fields = _envelope(fields, key, spoken)
    elif kind == "assign":
        fields = {
            **fields,
            "call": _call(fields["call"]),
            "shards": [[*shard, *BEHIND] for shard in fields["shards"]],
        }
    return [kind, {**fields, **ADDED}, *BEHIND]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    later = {**call, **ADDED, "env": [[*pair, *BEHIND] for pair in call["env"]]}
    if "script" in call:
        later["script"] = {**call["script"], **ADDED}
    return later


def _hello(fields: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    roles = {role: {**properties, **ADDED} for role, properties in fields["capabilities"].items()}
    signed = {name: fields[name] for name in _SIGNED} | {"capabilities": {**roles, "later": ADDED}}
    versions = [*fields["versions"], 4]
    return {
        **fields,
        **signed,
        "versions": versions,
        "sig": sign(key, TYPE_HELLO, canonical(signed)),
    }


def _envelope(fields: Mapping[str, Any], key: SigningKey, spoken: Counter[str]) -> dict[str, Any]:
    """Seal the body anew; the header is a fixed form and gets nothing more."""
    found = cbor2.loads(fields["b"])
    if found[0][0] in _BOUND:
        return dict(fields)
    messages = [later_message(each, key, spoken) for each in found]
    body = cbor2.dumps([["later", ADDED], *messages])
    header = cbor2.loads(fields["h"])
    header |= {"body_len": len(body), "body_hash": hashlib.sha256(body).digest()}
    raw = canonical(header)
    return {"h": raw, "s": sign(key, TYPE_BATCH, raw), "b": body}
