"""What another gateway's row says is read within bounds, whatever wrote it."""

import json
from typing import Any

import pytest

from swarm_hub.models.presence import (
    ADDRESSES_MAX,
    KINDS_MAX,
    PRESENCE_MAX_BYTES,
    NodeKind,
    Presence,
)

KIND = NodeKind(
    slots=8, idle=3, features=frozenset({"script"}), runtimes=frozenset({"ab" * 32}),
    labels=frozenset({("zone", "attic")}), memory_bytes=2**30, wall_time_s=60.0,
)  # fmt: skip
PRESENCE = Presence(
    "12D3KooW", "attic", "1.2.3", "cd" * 32, ("https://10.0.0.2:8470#sha256=ab",),
    ("/ip4/10.0.0.2/tcp/4001/p2p/12D3KooW",), 3, 8, 3, (KIND,),
)  # fmt: skip


def test_what_is_written_is_read() -> None:
    assert Presence.from_json("12D3KooW", PRESENCE.to_json()) == PRESENCE


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", "1", '"x"', "[" * 100_000, "{" + " " * PRESENCE_MAX_BYTES + "}"],
)
def test_a_row_that_tells_nothing_is_a_gateway_of_which_only_the_peer_id_is_known(
    text: str | None,
) -> None:
    assert Presence.from_json("12D3KooW", text) == Presence("12D3KooW")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "x" * 65), ("name", "bell\x07"), ("name", 7), ("version", ["1"]),
        ("key", "no hex"), ("nodes", -1), ("nodes", True), ("slots", 1e99), ("idle", "3"),
        ("urls", ["javascript:alert(1)", 7, "http://" + "x" * 300]), ("urls", "http://x"),
        ("addresses", ["", "ip4", None]), ("kinds", {"a": 1}), ("kinds", [None, 7, "x"]),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_dropped(key: str, value: Any) -> None:
    plain = {**json.loads(PRESENCE.to_json()), key: value}
    read = Presence.from_json("12D3KooW", json.dumps(plain))
    assert not getattr(read, key)


def test_lists_are_cut() -> None:
    plain = json.loads(PRESENCE.to_json())
    plain |= {"urls": ["http://x"] * 99, "kinds": [KIND.to_json()] * 99}
    read = Presence.from_json("12D3KooW", json.dumps(plain))
    assert (len(read.urls), len(read.kinds)) == (ADDRESSES_MAX, KINDS_MAX)


def test_kinds_without_room_are_left_out_those_with_the_most_idle_slots_stay() -> None:
    labels = frozenset((f"{number:0128d}", "y" * 128) for number in range(32))
    kinds = tuple(NodeKind(9, idle, frozenset(), labels=labels) for idle in range(9))
    text = Presence("12D3KooW", kinds=kinds).to_json()
    assert len(text) <= PRESENCE_MAX_BYTES
    told = [kind.idle for kind in Presence.from_json("12D3KooW", text).kinds]
    assert told == list(range(8, 8 - len(told), -1))
    assert told
