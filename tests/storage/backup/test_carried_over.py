"""A restore lets nobody in again who was locked out since the backup was made."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from swarm_hub.helpers.signing_keys import KeyFiles
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.models.rotation import Revocation
from swarm_hub.storage import Store, Write
from swarm_hub.storage.backup.backup import Source, make_backup
from swarm_hub.storage.backup.restore import Restored, restore
from swarm_hub.storage.queries import admission, keys, networks, nodes, replay_cache
from swarm_hub.util.clock import Clock
from swarm_hub.util.ed25519 import SigningKey

NOW = 1_800_000_000.0
OLD_KEY, NEW_KEY = (SigningKey(bytes([number]) * 32).public_key for number in (1, 2))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    storage = folder / ".storage"
    storage.mkdir(mode=0o700, parents=True)
    (folder / "configuration.yaml").write_text("gateway:\n")
    for name in ("identity.key", "signer.key"):
        (storage / name).write_bytes(name.encode().ljust(32, b"."))
        (storage / name).chmod(0o600)
    write(
        folder,
        nodes.see("owner", "tablet", "old", OLD_KEY, NOW),
        nodes.see("thief", "phone", "kid", OLD_KEY, NOW),
        *admission.create_invite("used", NOW, NOW + 1e6, None),
        *admission.create_invite("taken back", NOW, NOW + 1e6, None),
        *admission.create_invite("open", NOW, NOW + 1e6, None),
    )
    return folder


def write(folder: Path, *writes: Write) -> None:
    async def commit() -> None:
        store = Store.on_file(folder / "swarm_hub.db", Clock())
        await store.open()
        await store.commit(list(writes))
        await store.close()

    asyncio.run(commit())


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "swarm_hub.db")) as database:
        return database.execute(query).fetchall()


def saved(folder: Path) -> Path:
    target = folder.parent / "saved.tar"
    made = make_backup(Source(folder, "hub", folder / "swarm_hub.db"), target, NOW)
    assert made.problems == ()
    return target


def restored(file: Path, folder: Path, *, may_return: bool = False) -> Restored:
    asked: list[Sequence[str]] = []

    def answer(names: Sequence[str]) -> bool:
        asked.append(names)
        return may_return

    return restore(file, folder, database=folder / "swarm_hub.db", may_return=answer)


def test_bans_revocations_and_pins_since_the_backup_stay(hub: Path) -> None:
    file = saved(hub)
    write(
        hub,
        *nodes.ban("thief", "stole a key", NOW, None),
        *nodes.ban("stranger", "forged", NOW, None),
        nodes.pin("owner", "new", NEW_KEY),
        networks.ban("10.0.0.0/8", "flooding", NOW, None),
        keys.revoke([Revocation("ab" * 16, NOW, "stolen", "ff" * 32)]),
        replay_cache.remember(b"j" * 16, "owner", b"h", NOW + 1e6, NOW),
        *replay_cache.raise_floor("owner", NOW - 100),
    )
    restored(file, hub)
    banned = rows(hub, "SELECT peer_id FROM nodes WHERE banned_at IS NOT NULL ORDER BY 1")
    assert banned == [("stranger",), ("thief",)]
    assert rows(hub, "SELECT kid, public_key FROM nodes WHERE peer_id = 'owner'") == [
        ("new", NEW_KEY)
    ]
    assert rows(hub, "SELECT cidr FROM banned_networks") == [("10.0.0.0/8",)]
    assert rows(hub, "SELECT kid, issuer FROM revoked_keys") == [("ab" * 16, "ff" * 32)]
    assert rows(hub, "SELECT jti FROM seen") == [(b"j" * 16,)]
    assert rows(hub, "SELECT valid_until FROM replay_floors") == [(NOW - 100,)]


def test_a_used_invitation_stays_used_and_one_taken_back_is_gone(hub: Path) -> None:
    file = saved(hub)
    with closing(sqlite3.connect(hub / "swarm_hub.db")) as database:
        database.execute("UPDATE invites SET used_at = 1, used_by = 'x' WHERE token_sha = 'used'")
        database.execute("DELETE FROM invites WHERE token_sha = 'taken back'")
        database.commit()
    restored(file, hub)
    found = rows(hub, "SELECT token_sha, used_by FROM invites ORDER BY 1")
    assert found == [("open", None), ("used", "x")]


@pytest.mark.parametrize("may_return", [False, True])
def test_a_revoked_token_comes_back_only_if_its_owner_says_so(hub: Path, may_return: bool) -> None:
    tokens = TokenFile(hub / ".storage" / "tokens.json")
    stays, _ = tokens.create("stays", "admin", NOW)
    gone, secret = tokens.create("gone", "admin", NOW)
    file = saved(hub)
    tokens.revoke(gone.id)
    done = restored(file, hub, may_return=may_return)
    again = TokenFile(hub / ".storage" / "tokens.json")
    assert (again.find(secret, 0.0) is not None) is may_return
    assert stays.id in {each.id for each in again.all()}
    assert any("gone" in note for note in done.notes) is not may_return


def test_keys_revoked_here_stay_revoked_and_such_a_signing_key_does_not_return(hub: Path) -> None:
    files = KeyFiles(hub / ".storage")
    before = files.own(NOW)
    file = saved(hub)
    files.rotate("peer", 60, NOW)
    files.revoke(before.kid, "stolen", NOW)
    done = restored(file, hub)
    assert [each.kid for each in files.revoked()] == [before.kid]
    own = files.own(NOW)
    assert own.kid != before.kid
    assert [each.old_kid for each in own.rotations] == [before.kid]
    assert "The signing key in the backup is revoked: the present one stays" in done.notes


def test_on_a_new_machine_everything_comes_back(hub: Path, tmp_path: Path) -> None:
    _, secret = TokenFile(hub / ".storage" / "tokens.json").create("a", "admin", NOW)
    file = saved(hub)
    other = tmp_path / "other"
    other.mkdir()
    restored(file, other)
    assert TokenFile(other / ".storage" / "tokens.json").find(secret, 0.0) is not None
    assert len(rows(other, "SELECT token_sha FROM invites")) == 3


def test_a_damaged_database_is_no_obstacle_and_is_told(hub: Path) -> None:
    file = saved(hub)
    (hub / "swarm_hub.db").write_bytes(b"garbage" * 1000)
    done = restored(file, hub)
    assert any("look through them" in note for note in done.notes)
    assert len(rows(hub, "SELECT token_sha FROM invites")) == 3


def test_what_an_older_schema_lacks_is_left_out(hub: Path) -> None:
    file = saved(hub)
    (hub / "swarm_hub.db").unlink()
    with closing(sqlite3.connect(hub / "swarm_hub.db")) as database:
        database.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        database.execute("CREATE TABLE revoked_keys (kid TEXT, revoked_at REAL, reason TEXT)")
        database.execute("INSERT INTO revoked_keys VALUES ('0011223344556677', 1.0, 'old')")
        database.commit()
    restored(file, hub)
    assert rows(hub, "SELECT kid, issuer FROM revoked_keys") == [("0011223344556677", None)]
