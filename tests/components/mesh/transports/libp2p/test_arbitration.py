"""Which stream becomes the session, and addresses and ids that the mesh accepts."""

import os

import pytest

from swarm_hub.components.mesh.identity import (
    expand_wildcard,
    is_peer_id,
    parse_dial_address,
    parse_listen_address,
    parse_networks,
    peer_id_from_seed,
    without_loopback,
)
from swarm_hub.components.mesh.transports.libp2p.arbitration import (
    Generation,
    Opening,
    arbiter_accepts,
    follower_accepts,
    is_arbiter,
    live_fields,
    opening_fields,
    read_live,
    read_opening,
)
from swarm_hub.exceptions import MeshError

BOOT, OTHER_BOOT = b"b" * 16, b"o" * 16
ARBITER = b"a" * 16
PEER = peer_id_from_seed(b"\x01" * 32)


def test_exactly_one_of_two_is_the_arbiter() -> None:
    assert is_arbiter("a", "b") != is_arbiter("b", "a")


@pytest.mark.parametrize(
    ("current", "boot", "seen", "accepted"),
    [
        (None, None, None, True),
        (3, BOOT, None, False),
        (3, BOOT, 2, False),
        (3, BOOT, 3, True),
        (3, OTHER_BOOT, None, True),
        (3, None, None, False),
        (3, None, 2, False),
    ],
    ids=[
        "first session",
        "both dialled at once",
        "dialled before it saw the current session",
        "lost the current session",
        "restarted",
        "another stream is being opened",
        "another stream is being opened after an old session",
    ],
)
def test_what_the_arbiter_accepts(
    current: int | None, boot: bytes | None, seen: int | None, accepted: bool
) -> None:
    now = Generation(ARBITER, current) if current is not None else None
    asked = Opening(BOOT, Generation(ARBITER, seen) if seen is not None else None)
    assert arbiter_accepts(now, boot, asked) is accepted


def test_the_follower_moves_forward_or_to_a_restarted_arbiter() -> None:
    now = Generation(ARBITER, 3)
    assert follower_accepts(None, Generation(ARBITER, 1))
    assert follower_accepts(now, Generation(ARBITER, 4))
    assert follower_accepts(now, Generation(OTHER_BOOT, 1))
    assert not follower_accepts(now, Generation(ARBITER, 3))
    assert not follower_accepts(now, Generation(ARBITER, 2))


def test_what_is_said_is_understood() -> None:
    generation = Generation(ARBITER, 7)
    assert read_live(live_fields(generation)) == generation
    assert read_opening(opening_fields(BOOT, generation)) == Opening(BOOT, generation)
    assert read_opening(opening_fields(BOOT, None)) == Opening(BOOT, None)
    later = {"later": {"deep": [1]}}
    assert read_live({**live_fields(generation), **later}) == generation
    assert read_opening({**opening_fields(BOOT, None), **later}) == Opening(BOOT, None)


@pytest.mark.parametrize(
    "fields",
    [{}, {"boot": b"short", "seq": 1}, {"boot": BOOT, "seq": True}, {"boot": BOOT, "seq": 0}],
)
def test_what_is_not_understood_is_nothing(fields: dict[str, object]) -> None:
    assert read_live(fields) is None
    assert read_opening(fields) is None


# Identity


def test_a_peer_id_is_the_one_libp2p_derives_from_the_same_seed() -> None:
    from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p

    import_libp2p()
    from libp2p.identity_utils import create_identity_from_seed
    from libp2p.peer.id import ID

    for seed in (bytes(32), b"\xff" * 32, os.urandom(32)):
        theirs = str(ID.from_pubkey(create_identity_from_seed(seed).public_key))
        assert peer_id_from_seed(seed) == theirs
        assert is_peer_id(theirs)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(MeshError, match="exactly 32 bytes"):
        peer_id_from_seed(bytes(length))


@pytest.mark.parametrize("host", ["ip4/10.0.0.1", "ip6/::1", "dns/hub.local", "dns4/a", "dns6/a.b"])
def test_addresses_to_dial(host: str) -> None:
    text = f"/{host}/tcp/4001/p2p/{PEER}"
    parsed = parse_dial_address(text)
    assert str(parsed) == text
    assert (parsed.port, parsed.peer_id) == (4001, PEER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/ip4/10.0.0.1/tcp/4001",
        f"/ip4/10.0.0.1/tcp/0/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/65536/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/-1/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/٤/p2p/{PEER}",
        f"/ip4/10.0.0.256/tcp/4001/p2p/{PEER}",
        f"/ip4/::1/tcp/4001/p2p/{PEER}",
        f"/ip6/10.0.0.1/tcp/4001/p2p/{PEER}",
        f"/dns4//tcp/4001/p2p/{PEER}",
        f"/dns4/a b/tcp/4001/p2p/{PEER}",
        f"/dns4/-a/tcp/4001/p2p/{PEER}",
        f"/dns4/{'a' * 64}/tcp/4001/p2p/{PEER}",
        f"/dns4/{'a' * 250}!/tcp/4001/p2p/{PEER}",
        f"/ip4/10.0.0.1/udp/4001/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/4001/ws/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}/p2p-circuit",
        f"/unix/x/tcp/4001/p2p/{PEER}",
        "/ip4/10.0.0.1/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "/ip4/10.0.0.1/tcp/4001/p2p/0OIl",
        f"/memory/0/p2p/{PEER}",
    ],
)
def test_other_addresses_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(MeshError) as caught:
        parse_dial_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["/dns4/a/tcp/1", "/ip4/0.0.0.0/tcp/4001/p2p/" + PEER, "/ip4/0.0.0.0", "0.0.0.0:4001"]
)
def test_addresses_one_cannot_listen_on(text: str) -> None:
    with pytest.raises(MeshError):
        parse_listen_address(text)


def test_every_interface_is_given_to_others_as_its_addresses() -> None:
    ips = ["127.0.0.1", "192.168.1.5", "169.254.1.1", "fe80::1", "2001:db8::1"]
    everywhere = parse_listen_address("/ip4/0.0.0.0/tcp/4001")
    assert [str(one) for one in expand_wildcard(everywhere, ips)] == [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/192.168.1.5/tcp/4001",
    ]
    assert expand_wildcard(everywhere, []) == [everywhere]
    one = parse_listen_address("/ip6/::1/tcp/4001")
    assert expand_wildcard(one, ips) == [one]


def test_loopback_is_not_announced_to_other_devices() -> None:
    local, lan = (f"/ip4/{ip}/tcp/4001/p2p/{PEER}" for ip in ("127.0.0.1", "192.168.1.5"))
    assert without_loopback([local, lan]) == (lan,)
    assert without_loopback([local]) == (local,)


def test_networks_to_ban() -> None:
    assert [str(one) for one in parse_networks(["10.0.0.1", "10.1.2.3/8", "::1"])] == [
        "10.0.0.1/32",
        "10.0.0.0/8",
        "::1/128",
    ]
    with pytest.raises(MeshError, match="cannot ban"):
        parse_networks(["10.0.0.0/99"])
