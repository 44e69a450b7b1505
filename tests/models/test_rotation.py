"""The signed words by which a key becomes another: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.helpers.signing_keys import KeyFiles
from swarm_hub.models.envelope import canonical, sign
from swarm_hub.models.rotation import (
    CHAIN_MAX,
    TYPE_ROTATION,
    TYPE_SUCCESSOR,
    Rotation,
    accept,
    chain_to,
    make_rotation,
    read_kept,
    read_rotations,
)
from swarm_hub.util.ed25519 import SigningKey

KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 6)]
PUBLIC = [key.public_key for key in KEYS]


def link(old: int, new: int) -> Rotation:
    return make_rotation(KEYS[old], KEYS[new], peer_id="12D3Koo", at=1000, overlap_s=60)


WORD = link(0, 1).to_wire()


def signed(**changes: Any) -> list[bytes]:
    fields = {"peer": "x", "old": PUBLIC[0], "new": PUBLIC[1], "at": 10, "until": 20, **changes}
    statement = canonical(fields)
    return [
        statement,
        sign(KEYS[0], TYPE_ROTATION, statement),
        sign(KEYS[1], TYPE_SUCCESSOR, statement),
    ]


def test_a_rotation_is_read_as_it_was_made() -> None:
    assert read_rotations([WORD]) == [link(0, 1)]
    assert read_rotations([]) == []


@pytest.mark.parametrize(
    "wire",
    [
        None,
        {},
        [WORD[0], WORD[1], WORD[2]],
        [[WORD[0]]],
        [WORD[:2]],
        [[WORD[0], WORD[1], None]],
        [[WORD[0], WORD[1], b""]],
        # Signed by the old key in the new one's place, and by another key.
        [[WORD[0], WORD[1], WORD[1]]],
        [[WORD[0], WORD[1], sign(KEYS[2], TYPE_SUCCESSOR, WORD[0])]],
        [[*WORD, b"later"]],
        [[1, 2, 3]],
        [[WORD[0], bytes(64), WORD[2]]],
        [[WORD[0], b"", WORD[2]]],
        [[WORD[0][:-1], *WORD[1:]]],
        [[WORD[0] + b"\x00", *WORD[1:]]],
        [[b"\xa0", *WORD[1:]]],
        [[b"\x81" * 400, *WORD[1:]]],
        [[bytes(513), *WORD[1:]]],
        [WORD] * (CHAIN_MAX + 1),
        [signed(at=20, until=10)],
        [signed(at=-5)],
        [signed(until=2**40)],
        [signed(until=10 + 91 * 86_400)],
        [signed(new=b"short")],
        [signed(old=PUBLIC[2])],
        [signed(at=1.5)],
        [signed(more=1)],
    ],
)
def test_anything_else_is_refused(wire: Any) -> None:
    with pytest.raises(SignatureRefusedError):
        read_rotations(wire)


@given(st.binary(max_size=600), st.binary(max_size=70))
def test_any_bytes_are_refused(statement: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureRefusedError):
        read_rotations([[statement, signature, signature]])


@given(st.integers(0, len(WORD[0]) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    damaged = bytearray(WORD[0])
    damaged[place] ^= change
    with pytest.raises(SignatureRefusedError):
        read_rotations([[bytes(damaged), *WORD[1:]]])


def test_the_statement_is_deterministic_cbor() -> None:
    assert cbor2.dumps(cbor2.loads(WORD[0]), canonical=True) == WORD[0]


@given(st.permutations([link(0, 1), link(1, 2), link(2, 3)]))
def test_a_chain_is_found_in_any_order(links: list[Rotation]) -> None:
    assert chain_to(PUBLIC[3], links) == [link(0, 1), link(1, 2), link(2, 3)]
    assert chain_to(PUBLIC[1], links) == [link(0, 1)]
    assert chain_to(PUBLIC[4], links) == []


def test_a_chain_that_bites_its_tail_ends() -> None:
    assert len(chain_to(PUBLIC[0], [link(0, 1), link(1, 0)])) == 2


def test_a_rotation_of_version_2_is_shown_once_its_new_key_has_signed_it() -> None:
    statement = link(0, 1).statement
    old = KEYS[0].sign(b"swarm-hub/v2/rotation\0" + statement)
    kept = read_kept(statement, old)
    with pytest.raises(SignatureRefusedError):
        read_rotations([kept.to_wire()])
    assert read_rotations([accept(kept, KEYS[1]).to_wire()])[0].new == PUBLIC[1]
    with pytest.raises(SignatureRefusedError, match="by the key that it names"):
        read_rotations([accept(kept, KEYS[2]).to_wire()])


def test_what_version_2_left_in_the_files_of_a_hub_is_shown_as_far_as_it_can_be(
    tmp_path: Path,
) -> None:
    (tmp_path / "signer.key").write_bytes(KEYS[2].seed)
    (tmp_path / "signer.key").chmod(0o600)
    made = []
    for rotation in (link(0, 1), link(1, 2)):
        key = KEYS[PUBLIC.index(rotation.old)]
        old = key.sign(b"swarm-hub/v2/rotation\0" + rotation.statement)
        made.append([rotation.statement.hex(), old.hex()])
    (tmp_path / "signer.rotations.json").write_text(json.dumps(made))
    shown = KeyFiles(tmp_path).own(1000).rotations
    # The key in the middle is gone, so nobody can sign for it.
    assert [each.old for each in shown] == [PUBLIC[1]]
    assert read_rotations([each.to_wire() for each in shown]) == list(shown)
