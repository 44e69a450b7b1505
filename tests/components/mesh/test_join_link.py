"""Invitation links: what survives a chat program, and what each damage is answered with."""

import base64
import hashlib
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.join_link import (
    ADDRESSES_MAX,
    OTHERS_MAX,
    JoinLink,
    LinkedGateway,
    parse_join_link,
)
from swarm_hub.exceptions import JoinLinkError

PEER = peer_id_from_seed(b"p" * 32)
LINK = JoinLink(
    "kitchen",
    PEER,
    (f"/ip4/192.168.1.20/tcp/4001/p2p/{PEER}",),
    b"k" * 32,
    b"t" * 16,
    1_800_000_000,
)
TEXT = LINK.to_text()
START = "swarmhub://join/1/"

hosts = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"/ip4/{ip}"),
    st.ip_addresses(v=6).map(lambda ip: f"/ip6/{ip}"),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).map(
        lambda name: f"/dns4/{name}"
    ),
)
addresses = st.builds("{}/tcp/{}/p2p/{}".format, hosts, st.integers(1, 65535), st.just(PEER))
links = st.builds(
    JoinLink,
    st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=64).filter(str.isprintable),
    st.just(PEER),
    st.lists(addresses, min_size=1, max_size=ADDRESSES_MAX).map(tuple),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**37 - 1),
)


OTHER = peer_id_from_seed(b"o" * 32)
SEVERAL = replace(
    LINK,
    others=(
        LinkedGateway(
            OTHER, b"s" * 32, tuple(f"/ip4/10.0.0.{n}/tcp/4001/p2p/{OTHER}" for n in (1, 2))
        ),
    ),
)


def packed(content: Any, **changes: Any) -> str:
    """Return a link with a right checksum around any content."""
    if isinstance(content, dict):
        content = cbor2.dumps({**content, **changes}, canonical=True)
    raw = content + hashlib.sha256(content).digest()[:4]
    return START + base64.b32encode(raw).decode().rstrip("=").lower()


FIELDS: dict[str, Any] = {
    "a": ["/ip4/192.168.1.20/tcp/4001"], "e": 1, "k": b"k" * 32, "n": "x",
    "p": b"p" * 32, "t": b"t" * 16,
}  # fmt: skip


@given(links)
def test_a_link_is_read_as_it_was_made(link: JoinLink) -> None:
    assert parse_join_link(link.to_text()) == link


def test_a_link_names_other_gateways_of_the_store() -> None:
    link = parse_join_link(SEVERAL.to_text())
    assert link == SEVERAL
    assert link.all_addresses == (*LINK.addresses, *SEVERAL.others[0].addresses)
    assert link.all_keys == ("6b" * 32, "73" * 32)
    # A QR code has to stay legible: no more than so many, with two addresses each.
    many = replace(SEVERAL, others=SEVERAL.others * (OTHERS_MAX + 2))
    assert parse_join_link(many.to_text()).others == SEVERAL.others * OTHERS_MAX


@pytest.mark.parametrize(
    "others",
    [
        [7], [[]], [[b"o" * 32, b"s" * 32]], [[b"o" * 31, b"s" * 32, ["/ip4/1.2.3.4/tcp/1"]]],
        [[b"o" * 32, b"s" * 32, []]], [[b"o" * 32, b"s" * 32, ["/ip4/1.2.3.4/tcp/1"] * 3]],
        [[b"o" * 32, b"s" * 32, [7]]], [[b"o" * 32, b"s" * 32, ["/ip4/1.2.3.4/tcp/1"]]] * 4,
    ],
)  # fmt: skip
def test_other_gateways_that_no_hub_wrote_are_refused(others: list[Any]) -> None:
    with pytest.raises(JoinLinkError, match=r"can't be used|was not made by swarm-hub invite"):
        parse_join_link(packed(FIELDS, g=others).replace("/join/1/", "/join/2/"))


@given(st.data())
def test_a_link_survives_what_chat_programs_and_terminals_do(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([TEXT, TEXT.upper(), TEXT.capitalize()]))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(text)))
        text = (
            text[:place] + data.draw(st.sampled_from(["\n", "  ", "\r\n", "\u00a0"])) + text[place:]
        )
    around = data.draw(st.sampled_from([("", ""), ("<", ">"), ('"', '"'), ("", "."), (" ", "\n")]))
    assert parse_join_link(around[0] + text + around[1]) == LINK


@given(st.integers(0, len(TEXT) - len(START) - 1))
def test_a_cut_link_says_that_it_is_incomplete(kept: int) -> None:
    with pytest.raises(JoinLinkError, match=r"incomplete|version|begin with") as caught:
        parse_join_link(TEXT[: len(START) + kept])
    assert "copy the whole link again" in str(caught.value)


@given(st.integers(len(START), len(TEXT) - 1), st.sampled_from("abcxyz234567018_-%"))
@example(len(TEXT) - 1, "x")  # differs in bits that belong to no byte
def test_a_changed_character_is_noticed(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    if changed != TEXT:
        with pytest.raises(JoinLinkError, match="copy the whole link again"):
            parse_join_link(changed)


@given(st.text(max_size=300))
def test_any_text_is_refused_with_one_line(text: str) -> None:
    for each in (text, START + text):
        with pytest.raises(JoinLinkError) as caught:
            parse_join_link(each)
        assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_content_with_a_right_checksum_is_refused(content: bytes) -> None:
    with pytest.raises(JoinLinkError):
        parse_join_link(packed(content))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has to begin with swarmhub://join/"),
        ("http://example.com/join/1/abc", "'http://example.com/join/1/abc' is not an invitation"),
        ("swarmhub://leave/1/abc", "is not an invitation"),
        ("swarmhub://join/3/abc", "version '3', this swarm-hub reads versions 1 and 2: upgrade"),
        (START, "incomplete"),
        (f"{START}0189", "none contains '0'"),
        (START + "a" * 4096, "at most 4096 characters"),
        ("x" * 20_000, "20000 characters are not an invitation"),
        (packed(FIELDS, a=[]), "not made by swarm-hub invite"),
        (packed(FIELDS, a=["/ip4/1.2.3.4/tcp/1"] * 9), "not made by swarm-hub invite"),
        (packed(FIELDS, a=["/ip4/1.2.3.4/udp/1"]), "not understood: expected /ip4|ip6|dns"),
        (packed(FIELDS, a=["/ip4/1.2.3.4/tcp/0"]), "port 0"),
        (packed(FIELDS, a=["http://169.254.169.254"]), "not understood"),
        (packed(FIELDS, a=[f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}"]), "not understood"),
        (packed(FIELDS, a=[7]), "not understood"),
        (packed(FIELDS, k=b"short"), "not made by swarm-hub invite"),
        (packed(FIELDS, t=b"t" * 17), "not made by swarm-hub invite"),
        (packed(FIELDS, p=b""), "not made by swarm-hub invite"),
        (packed(FIELDS, e=-1), "not made by swarm-hub invite"),
        (packed(FIELDS, e=2**63), "not made by swarm-hub invite"),
        (packed(FIELDS, e=True), "not made by swarm-hub invite"),
        (packed(FIELDS, n="a\nb"), "not made by swarm-hub invite"),
        (packed(FIELDS, n="x" * 65), "not made by swarm-hub invite"),
        (packed(FIELDS, z=1), "not made by swarm-hub invite"),
        (packed(cbor2.dumps(FIELDS, canonical=True) + b"\x00"), "not made by swarm-hub invite"),
        (packed(b"\x81" * 1000), "not made by swarm-hub invite"),
    ],
)
def test_every_bad_link_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(JoinLinkError) as caught:
        parse_join_link(text)
    assert said in str(caught.value)


def test_a_link_that_would_be_too_long_is_not_made() -> None:
    long = tuple(f"/dns/{'.'.join(['x' * 60] * 4)}/tcp/{port}/p2p/{PEER}" for port in range(1, 9))
    with pytest.raises(JoinLinkError, match="fewer or shorter addresses"):
        JoinLink("x" * 64, PEER, long * 2, b"k" * 32, b"t" * 16, 1).to_text()
