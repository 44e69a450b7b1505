"""Records: each is opened once, in order, by whom it is for, and by nobody who changed anything."""

import pytest

from swarm_hub.components.mesh.express import records
from swarm_hub.components.mesh.express.records import (
    BadRecord,
    Direction,
    Ephemeral,
    transcript,
)
from swarm_hub.exceptions import MeshError

ASKER, OFFERER = b"\7" * 32, b"\x08" * 32


def agreed(ask: bytes = b"ask header", key: bytes = b"\1" * 32) -> bytes:
    return transcript(ask, key, b"offer header", b"\2" * 32)


def secrets(own: bytes, theirs: bytes, ask: bytes = b"ask header") -> tuple[bytes, bytes]:
    return Ephemeral(own).secrets(Ephemeral(theirs).public, agreed(ask))


def directions() -> tuple[Direction, Direction]:
    """Return the asker's sending end and the offerer's receiving end."""
    return Direction(secrets(ASKER, OFFERER)[0]), Direction(secrets(OFFERER, ASKER)[0])


def opened(incoming: Direction, record: bytes) -> bytes:
    return incoming.open(record[:4], record[4:])


def test_both_sides_come_to_the_keys_and_bytes_of_the_protocol_page() -> None:
    made = secrets(ASKER, OFFERER)
    assert made == secrets(OFFERER, ASKER)
    assert made[0] != made[1]
    assert made[0].hex().startswith("477f382b")
    record = Direction(made[0]).seal(b"\x80")
    assert record.hex() == "00000011f9c29bdc4005202561dcdf5d98318a096f"


def test_a_record_is_opened_once_and_in_order() -> None:
    outgoing, incoming = directions()
    first, second = outgoing.seal(b"one"), outgoing.seal(b"two")
    assert opened(incoming, first) == b"one"
    assert opened(incoming, second) == b"two"
    with pytest.raises(BadRecord):
        opened(incoming, second)
    outgoing, incoming = directions()
    outgoing.seal(b"one")
    with pytest.raises(BadRecord):
        opened(incoming, outgoing.seal(b"two"))


@pytest.mark.parametrize("place", [0, 3, 4, 12, 20, -1])
def test_a_changed_byte_is_refused(place: int) -> None:
    outgoing, incoming = directions()
    record = bytearray(outgoing.seal(b"a body"))
    record[place] ^= 1
    with pytest.raises(BadRecord):
        opened(incoming, bytes(record))


def test_a_record_that_is_cut_or_longer_is_refused() -> None:
    for change in (slice(None, -1), slice(4, None)):
        outgoing, incoming = directions()
        with pytest.raises(BadRecord):
            opened(incoming, outgoing.seal(b"a body")[change])
    outgoing, incoming = directions()
    with pytest.raises(BadRecord):
        opened(incoming, outgoing.seal(b"a body") + b"\0")


def test_what_was_sent_does_not_come_back_as_the_peers() -> None:
    outgoing, _ = directions()
    own_incoming = Direction(secrets(ASKER, OFFERER)[1])
    with pytest.raises(BadRecord):
        opened(own_incoming, outgoing.seal(b"a body"))


def test_another_session_has_other_keys() -> None:
    outgoing, _ = directions()
    for other in (
        secrets(OFFERER, b"\x09" * 32),
        secrets(OFFERER, ASKER, ask=b"another header"),
        Ephemeral(OFFERER).secrets(Ephemeral(ASKER).public, agreed(key=b"\3" * 32)),
    ):
        with pytest.raises(BadRecord):
            opened(Direction(other[0]), outgoing.seal(b"a body"))


def test_keys_change_on_the_way_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_EPOCH_RECORDS", 8)
    outgoing, incoming = directions()
    keys = set()
    for number in range(40):
        assert opened(incoming, outgoing.seal(b"%d" % number)) == b"%d" % number
        keys.add(outgoing._secret)
    assert len(keys) == 5


def test_a_direction_ends_before_its_count_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_EPOCH_RECORDS", 8)
    monkeypatch.setattr(records, "_RECORDS_MAX", 16)
    outgoing, _ = directions()
    for _ in range(16):
        outgoing.seal(b"")
    with pytest.raises(MeshError, match="more records"):
        outgoing.seal(b"")


def test_an_ephemeral_key_is_of_use_once() -> None:
    ephemeral = Ephemeral()
    ephemeral.secrets(Ephemeral().public, bytes(32))
    with pytest.raises(MeshError, match="once"):
        ephemeral.secrets(Ephemeral().public, bytes(32))


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31)])
def test_a_key_that_makes_the_secret_known_is_refused(public: bytes) -> None:
    with pytest.raises(MeshError, match="small order"):
        Ephemeral().secrets(public, bytes(32))


def test_neither_key_nor_count_can_be_set() -> None:
    outgoing, _ = directions()
    assert not hasattr(outgoing, "__dict__")
    assert [name for name in dir(outgoing) if not name.startswith("_")] == ["open", "seal"]
