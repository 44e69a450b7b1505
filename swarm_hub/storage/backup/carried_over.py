"""What a restore does not take back: revoked keys, bans, pinned keys, used invitations, tokens.

The state of a backup is put in place of the present one, but whoever was locked out since must not
be let in again by that. All of it is added to the unpacked backup before anything is moved.
"""

import json
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from swarm_hub.const import (
    ADMIN_TOKEN_FILE,
    IDENTITY_KEY_FILE,
    REVOKED_FILE,
    ROTATIONS_FILE,
    SIGNER_KEY_FILE,
    TOKENS_FILE,
)
from swarm_hub.models.envelope import key_id, short_id
from swarm_hub.storage.backup.snapshot import database_id_of
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import sync_file, write_atomic

_LOGGER = logging.getLogger(__name__)

_KEY_BYTES: Final = 32
_BAN: Final = ("banned_at", "ban_reason", "ban_until")
_PIN: Final = ("kid", "public_key")

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """What was added: `files` of `.storage` that the backup lacks, and `notes` for people."""

    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def returning_tokens(staged: Path, present: Path) -> list[str]:
    """Return the names of tokens in a backup that were revoked since; both are `.storage` folders.

    Nothing is known of that where the present files are of another hub, or gone.
    """
    if not _same_hub(staged, present):
        return []
    known = {each.get("id") for each in _listed(present / TOKENS_FILE)}
    return [
        str(each.get("name"))
        for each in _listed(staged / TOKENS_FILE)
        if each.get("id") not in known
    ]


def carry_over_files(staged: Path, present: Path, *, keep_tokens: bool) -> CarriedOver:
    """Add to the unpacked `.storage` of a backup what the present one knows."""
    files, notes = [], []
    revoked = _union(_listed(staged / REVOKED_FILE), _listed(present / REVOKED_FILE), "kid")
    if revoked != _listed(staged / REVOKED_FILE):
        _write(staged / REVOKED_FILE, revoked)
        files.append(REVOKED_FILE)
    kids = {str(each.get("kid")) for each in revoked}
    if _is_revoked(staged / SIGNER_KEY_FILE, kids) and (present / SIGNER_KEY_FILE).is_file():
        for name in (SIGNER_KEY_FILE, ROTATIONS_FILE):
            if (present / name).is_file():
                write_atomic(staged / name, (present / name).read_bytes())
                files.append(name)
        notes.append("The signing key in the backup is revoked: the present one stays")
    returning = returning_tokens(staged, present)
    if returning and not keep_tokens:
        known = {each.get("id") for each in _listed(present / TOKENS_FILE)}
        kept = [each for each in _listed(staged / TOKENS_FILE) if each.get("id") in known]
        _write(staged / TOKENS_FILE, kept)
        if (present / ADMIN_TOKEN_FILE).is_file():
            admin = (present / ADMIN_TOKEN_FILE).read_bytes()
            write_atomic(staged / ADMIN_TOKEN_FILE, admin)
            files.append(ADMIN_TOKEN_FILE)
        notes.append(f"Tokens that were revoked since stay so: {', '.join(returning)[:500]}")
    return CarriedOver(tuple(files), tuple(notes))


def carry_over_rows(staged: Path, present: Path) -> CarriedOver:
    """Add to the unpacked database of a backup what the present one knows."""
    if not present.is_file():
        return CarriedOver()
    try:
        uri = f"file:{quote(str(present.absolute()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as source:
            known = {
                table: _rows(source, table)
                for table in (
                    "revoked_keys", "key_rotations", "banned_networks", "seen", "replay_floors",
                    "nodes", "invites",
                )
            }  # fmt: skip
            name = database_id_of(source)
    except sqlite3.Error as error:
        _LOGGER.warning("What %s knows of bans can't be read: %s", present, error)
        return CarriedOver(
            notes=(
                f"{present}: can't be read ({error}): bans, revoked keys and used invitations are "
                "those of the backup; look through them",
            )
        )
    with closing(sqlite3.connect(staged, isolation_level=None)) as target:
        target.execute("BEGIN IMMEDIATE")
        before = target.total_changes
        _merge(target, known, same=database_id_of(target) == name)
        changed = target.total_changes != before
        target.execute("COMMIT" if changed else "ROLLBACK")
    if changed:
        sync_file(staged)
    return CarriedOver()


def _merge(target: sqlite3.Connection, known: dict[str, Rows], *, same: bool) -> None:
    for table in ("revoked_keys", "key_rotations", "banned_networks", "seen"):
        _insert(target, table, known[table])
    for row in known["replay_floors"] if _columns(target, "replay_floors") else ():
        target.execute(
            "INSERT INTO replay_floors (iss, valid_until) VALUES (?, ?) ON CONFLICT (iss) "
            "DO UPDATE SET valid_until = excluded.valid_until "
            "WHERE valid_until < excluded.valid_until",
            (row["iss"], row["valid_until"]),
        )
    has_ban = set(_BAN) <= _columns(target, "nodes")
    for row in known["nodes"]:
        if row.get("banned_at") is not None and has_ban:
            _insert(target, "nodes", [row])
            _update(target, row, _BAN)
        if row.get("public_key") is not None:
            _update(target, row, _PIN)
    if not _columns(target, "invites"):
        return
    for row in known["invites"]:
        if row["used_at"] is not None:
            target.execute(
                "UPDATE invites SET used_at = ?, used_by = ? "
                "WHERE token_sha = ? AND used_at IS NULL",
                (row["used_at"], row["used_by"], row["token_sha"]),
            )
    if same:
        there = {row["token_sha"] for row in known["invites"]}
        for (token_sha,) in target.execute("SELECT token_sha FROM invites").fetchall():
            if token_sha not in there:
                # It was taken back, or has expired.
                target.execute("DELETE FROM invites WHERE token_sha = ?", (token_sha,))


def _update(target: sqlite3.Connection, row: dict[str, Any], names: Sequence[str]) -> None:
    values = [row.get(name) for name in names]
    target.execute(
        f"UPDATE nodes SET ({', '.join(names)}) = ({', '.join('?' * len(names))}) "  # noqa: S608
        f"WHERE peer_id = ? AND ({' OR '.join(f'{name} IS NOT ?' for name in names)})",
        (*values, row["peer_id"], *values),
    )


def _insert(target: sqlite3.Connection, table: str, rows: Rows) -> None:
    """Add rows that are not there yet, with the columns that both schemas have."""
    columns = _columns(target, table)
    for row in rows if columns else ():
        names = [name for name in row if name in columns]
        target.execute(
            f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) "  # noqa: S608
            f"VALUES ({', '.join('?' * len(names))})",
            [row[name] for name in names],
        )


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}


def _rows(connection: sqlite3.Connection, table: str) -> Rows:
    """Return the rows of a table; none if an older schema has no such table."""
    if not _columns(connection, table):
        return []
    cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608
    names = [each[0] for each in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _same_hub(staged: Path, present: Path) -> bool:
    keys = [folder / IDENTITY_KEY_FILE for folder in (staged, present)]
    return all(key.is_file() for key in keys) and len({key.read_bytes() for key in keys}) == 1


def _is_revoked(key: Path, kids: set[str]) -> bool:
    if not kids or not key.is_file() or key.stat().st_size != _KEY_BYTES:
        return False
    kid = key_id(SigningKey(key.read_bytes()).public_key)
    return not kids.isdisjoint({kid, short_id(kid)})


def _union(first: Rows, second: Rows, name: str) -> Rows:
    known = {each.get(name) for each in first}
    return [*first, *(each for each in second if each.get(name) not in known)]


def _listed(path: Path) -> Rows:
    """Return the entries of a JSON file; none if it is gone or is no such file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    listed = content if isinstance(content, list) else []
    return [each for each in listed if isinstance(each, dict)]


def _write(path: Path, content: Rows) -> None:
    write_atomic(path, json.dumps(content, indent=1).encode())
