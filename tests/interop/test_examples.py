"""The bytes at the end of docs/protocol.md are what we make, and what JavaScript makes."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from swarm_hub.components.mesh.express.offers import ASK, OFFER, Ask, Offer, Place
from swarm_hub.components.mesh.express.records import SUITE, Direction, Ephemeral, transcript
from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.wire.framing import encode_frame, encode_message, join_messages
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.envelope import TYPE_HELLO, canonical, key_id, seal, sign
from swarm_hub.models.peer_id import certify
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.strict_cbor import to_canonical_cbor
from tests.interop.javascript import StartJs

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def on_the_page() -> dict[str, str]:
    """Return what the last block of the page says: each line a name and, indented, its bytes."""
    block = (
        PAGE.read_text()
        .rpartition("## Bytes to check against")[2]
        .split("```text")[1]
        .split("```")[0]
    )
    found: dict[str, str] = {}
    name = ""
    for line in block.strip().splitlines():
        if line.startswith(" "):
            found[name] += line.strip()
        else:
            name = line
            found[name] = ""
    return found


def opening_bytes(key: bytes, ticket_id: bytes) -> bytes:
    head = b"SHB3" + ticket_id + bytes(8)
    return head + AESGCM(key).encrypt(b"\xff" * 12, b"", head)


def express() -> dict[str, bytes]:
    """Return what leads to an express connection, and its records."""
    worker, gateway = (peer_id_from_seed(bytes([number]) * 32) for number in (1, 2))
    asking, offering = SigningKey(bytes([3]) * 32), SigningKey(bytes([9]) * 32)
    place = Place("b", "b", (bytes([7]) * 16, 1))
    asked, offered = Ephemeral(bytes([7]) * 32), Ephemeral(bytes([8]) * 32)
    ask = to_canonical_cbor([[ASK, Ask((SUITE,), asked.public, place).to_wire()]])
    ask_header = seal(
        asking, kid=key_id(asking.public_key), iss=worker, aud=gateway, now=1_700_000_000,
        ttl_s=60, jti=bytes(range(16)), body=ask,
    ).header  # fmt: skip
    offer_id = bytes([5]) * 16
    made = Offer(SUITE, offer_id, offered.public, 4002, place, hashlib.sha256(ask_header).digest())
    offer = to_canonical_cbor([[OFFER, made.to_wire()]])
    offer_header = seal(
        offering, kid=key_id(offering.public_key), iss=gateway, aud=worker, now=1_700_000_000,
        ttl_s=60, jti=bytes(range(16, 32)), body=offer,
    ).header  # fmt: skip
    agreed = transcript(ask_header, asking.public_key, offer_header, offering.public_key)
    of_worker, of_gateway = asked.secrets(offered.public, agreed)
    proof = to_canonical_cbor([["express", {"t": agreed}]])
    late = Direction(of_worker)
    # A million records are not made here.
    late._count = 1 << 20
    return {
        "body of an express_ask, X25519 private key 07…, session [07…, 1]": ask,
        "its h, otherwise as above": ask_header,
        "public key of 09…, that of the gateway": offering.public_key,
        "body of the express_offer, X25519 private key 08…, id 05…, port 4002": offer,
        "its h, from 02… to 01…, jti 10…1f": offer_header,
        "T": agreed,
        "secret of what the worker sends": of_worker,
        "secret of what the gateway sends": of_gateway,
        "first bytes of the connection": b"SHX1" + offer_id + Direction(of_worker).seal(proof),
        "first record of the gateway": Direction(of_gateway).seal(proof),
        "record 1048576 of the worker, the first of the second epoch, of no messages (`80`)": (
            late.seal(b"\x80")
        ),
    }


def ours() -> dict[str, str]:
    author, reader = (peer_id_from_seed(bytes([number]) * 32) for number in (1, 2))
    key = SigningKey(bytes([3]) * 32)
    public_key = key.public_key
    worker = {"slots": 2, "memory_bytes": 268_435_456}
    fields: dict[str, Any] = {
        "iss": author, "aud": reader, "key": public_key, "time": 1_700_000_000.0, "name": "phone",
        "capabilities": {"worker": worker}, "boot_id": "b", "db_id": "d",
    }  # fmt: skip
    hello = canonical(fields)
    body = join_messages([encode_message("ack", {"ids": ["a.0.1"]})])
    envelope = seal(
        key, kid=key_id(public_key), iss=author, aud=reader, now=1_700_000_000, ttl_s=60,
        jti=bytes(range(16)), body=body,
    )  # fmt: skip
    opening = {"boot": bytes([7]) * 16, "seen": 0, "seen_boot": b""}
    ticket_key, ticket_id = bytes([4]) * 32, bytes([5]) * 16
    found = {
        "peer id of 01…": author,
        "peer id of 02…, the smaller one: the arbiter": reader,
        "public key of 03…": public_key,
        "its kid": key_id(public_key),
        "frame of open": encode_frame([encode_message("open", opening)]),
        "frame of credit {taken: 32768}, 23 bytes": encode_frame(
            [encode_message("credit", {"taken": 32768})]
        ),
        "hello at 1700000000.0, what is signed behind swarm-hub/v3/hello and NUL": hello,
        "its sig": sign(key, TYPE_HELLO, hello),
        "its cert, by the identity 01…": certify(SigningKey(bytes([1]) * 32), public_key),
        "call_sha of the module 06…, called as `run` of abi `bytes` for at most 30.0 s": ModuleCall(
            "06" * 32, "bytes", "run", wall_time_s=30.0
        ).sha,
        "body of an envelope, one ack": body,
        "h": envelope.header,
        "s": envelope.signature,
        **express(),
        "first bytes of a bulk connection, ticket key 04…, id 05…, from offset 0": opening_bytes(
            ticket_key, ticket_id
        ),
        "second chunk of a blob that ends with `swarm`, ticket key 04…, id 05…": AESGCM(
            ticket_key
        ).encrypt((1).to_bytes(12, "big"), b"swarm", ticket_id),
    }
    return {name: each if isinstance(each, str) else each.hex() for name, each in found.items()}


OURS = ours()


@pytest.mark.parametrize("name", OURS)
def test_the_page_has_our_bytes(name: str) -> None:
    assert on_the_page()[name] == OURS[name]


async def test_javascript_makes_the_bytes_on_the_page(start_js: StartJs) -> None:
    js = await start_js()
    made = await js.do("examples")
    page = on_the_page()
    assert len(made) == len(page)
    for theirs, (name, expected) in zip(made, page.items(), strict=True):
        assert theirs == expected, name
