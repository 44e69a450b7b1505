"""The file format of a backup: a plain tar whose first member lists all the others.

It is not compressed: most of a large store is datasets and modules of unknown kind, a phone's
processor is slow, and so no member can unpack to more than the file itself holds. Every byte
follows from the manifest, which has its own hash at the end; a reader compares instead of parsing,
so that it trusts neither names nor headers of a file from a stranger.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from swarm_hub.const import CUSTOM_COMPONENTS_DIR, __version__
from swarm_hub.exceptions import BackupError, RequestError
from swarm_hub.storage.backup.hub_files import TOKEN_FILES
from swarm_hub.storage.backup.sealed import is_sealed
from swarm_hub.util.files import sync_directory
from swarm_hub.util.hashing import SHA256_HEX, sha256_hex
from swarm_hub.util.strict_json import dump_json, parse_json
from swarm_hub.util.yaml_loader import YAML_SUFFIXES

FORMAT: Final = 1
# Names inside the archive; `tar tf` shows them.
DATABASE_MEMBER: Final = "database/swarm_hub.db"
CONFIG_PREFIX: Final = "config/"
STORAGE_PREFIX: Final = "storage/"
BLOBS_PREFIX: Final = "blobs/"
# A larger key or YAML file can't be genuine; blobs and the database are bounded only by the file.
SMALL_MAX_BYTES: Final = 64 * 1024**2

_MANIFEST: Final = "manifest.json"
_MANIFEST_SUM: Final = "manifest.json.sha256"
_MANIFEST_MAX_BYTES: Final = 64 * 1024**2
_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _BLOCK)
_CHUNK_BYTES: Final = 1024**2
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.key\Z", re.ASCII)
_BLOB_NAME: Final = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\Z", re.ASCII)
_TEXT_MAX: Final = 4096

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a backup."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """What a backup says of itself; `schema`, `db_id` and `database` are None without a database.

    `database` is where it was, relative to the configuration directory, or absolute when it was
    outside; `missing` names the members that could not be saved, mostly lost or damaged blobs.
    """

    hub: str
    time: str
    db_id: str | None
    schema: int | None
    database: str | None
    members: tuple[Member, ...]
    missing: tuple[str, ...] = ()
    version: str = __version__
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Return the manifest as JSON."""
        return dump_json(asdict(self))


def ignore_progress(_what: str, _done: int, _total: int) -> None:
    """Report no progress of a backup or restore."""


class ArchiveWriter:
    """Writes a backup; the manifest's place stays free until everything else is known."""

    def __init__(self, file: BinaryIO, made_at: int, manifest_max_bytes: int) -> None:
        if manifest_max_bytes > _MANIFEST_MAX_BYTES:
            raise BackupError("there are too many blobs for one backup file (about 300,000)")
        self._file = file
        self._made_at = made_at
        self._manifest_bytes = manifest_max_bytes
        self._file.seek(_member_bytes(_MANIFEST, manifest_max_bytes))

    def add(
        self, name: str, size_bytes: int, chunks: Iterable[bytes], sha256: str | None = None
    ) -> Member:
        """Append a file; raises BackupError, with nothing appended, if it is not as announced."""
        start = self._file.tell()
        try:
            self._file.write(_header(name, size_bytes, self._made_at))
            digest, written = hashlib.sha256(), 0
            for chunk in chunks:
                digest.update(chunk)
                written += self._file.write(chunk)
            if written != size_bytes:
                raise BackupError(f"expected {size_bytes} bytes, found {written}")
            if sha256 not in (None, digest.hexdigest()):
                raise BackupError("its bytes have another hash")
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        self._file.write(_padding(size_bytes))
        return Member(name, size_bytes, digest.hexdigest())

    def finish(self, manifest: BackupManifest) -> None:
        """Write the manifest into its place and the end of the file."""
        raw = manifest.to_json().ljust(self._manifest_bytes)
        self.add(_MANIFEST_SUM, 65, [f"{sha256_hex(raw)}\n".encode()])
        self._file.write(_END)
        self._file.seek(0)
        self._file.write(_header(_MANIFEST, len(raw), self._made_at) + raw + _padding(len(raw)))


class ArchiveReader:
    """Reads a backup of unknown origin; the manifest is read and checked at once."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        raw = self._read_manifest()
        self._manifest_sum = f"{sha256_hex(raw)}\n".encode()
        self.manifest = self._checked(raw)
        self._expect_size(len(raw))

    @property
    def size_bytes(self) -> int:
        """The total size of the unpacked files."""
        return sum(member.size_bytes for member in self.manifest.members)

    def unpack(self, folder: Path, progress: Progress) -> None:
        """Write every file below `folder`, checked and synced; raises BackupError at a wrong byte.

        `folder` must not be used after a failure.
        """
        folders = {folder}
        done = 0
        for member in self.manifest.members:
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.update(each for each in target.parents if each.is_relative_to(folder))
            self._expect(_header(member.name, member.size_bytes, self._made_at))
            with _create(target) as file:
                self._copy(member, file)
            done += member.size_bytes
            progress("files", done, self.size_bytes)
        self._expect(_header(_MANIFEST_SUM, 65, self._made_at))
        self._expect(self._manifest_sum + _padding(65) + _END)
        for each in folders:
            sync_directory(each)

    def _read_manifest(self) -> bytes:
        try:
            info = tarfile.TarInfo.frombuf(self._file.read(_BLOCK), "utf-8", "strict")
            self._made_at = int(info.mtime)
            self._file.seek(0)
            if info.name != _MANIFEST or not 0 < info.size <= _MANIFEST_MAX_BYTES:
                raise ValueError("no manifest")
            expected = _header(_MANIFEST, info.size, self._made_at)
            if self._file.read(len(expected)) != expected:
                raise ValueError("no manifest")
        except (tarfile.HeaderError, ValueError, OverflowError):
            raise BackupError(
                f"{self._path}: this is not a backup of a hub; expected a file that "
                "`swarm-hub backup` made"
            ) from None
        raw = self._file.read(info.size)
        self._expect(_padding(info.size))
        return raw

    def _checked(self, raw: bytes) -> BackupManifest:
        try:
            content = parse_json(raw, _MANIFEST)
        except RequestError:
            raise self._damaged() from None
        if isinstance(content, dict) and content.get("format") not in (None, FORMAT):
            raise BackupError(
                f"{self._path}: the backup has format {content['format']!r:.40} (of swarm_hub "
                f"{content.get('version')!r:.40}), this swarm_hub {__version__} knows {FORMAT}; "
                "upgrade swarm_hub"
            )
        try:
            return _manifest(content)
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"its manifest is not valid: {error}") from None

    def _expect_size(self, manifest_bytes: int) -> None:
        sizes = [(member.name, member.size_bytes) for member in self.manifest.members]
        sizes += [(_MANIFEST, manifest_bytes), (_MANIFEST_SUM, 65)]
        expected = sum(_member_bytes(*each) for each in sizes) + len(_END)
        found = os.fstat(self._file.fileno()).st_size
        if found != expected:
            raise self._damaged(f"expected {expected} bytes, found {found}")

    def _copy(self, member: Member, file: BinaryIO) -> None:
        digest, left = hashlib.sha256(), member.size_bytes
        while left:
            chunk = self._file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise self._damaged(f"it ends inside {member.name}")
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
        if digest.hexdigest() != member.sha256:
            raise self._damaged(f"{member.name} has another hash than the manifest says")
        self._expect(_padding(member.size_bytes))

    def _expect(self, expected: bytes) -> None:
        if self._file.read(len(expected)) != expected:
            raise self._damaged()

    def _damaged(self, how: str = "its bytes are not those that were written") -> BackupError:
        return BackupError(
            f"{self._path}: the backup is damaged or was changed ({how}); "
            "nothing was restored, take another backup"
        )


@contextmanager
def opened(path: Path) -> Iterator[ArchiveReader]:
    """Open a backup for reading; raises BackupError if the file isn't one."""
    try:
        # Opening a pipe would wait for its other end.
        if not path.is_file():
            raise BackupError(f"{path}: expected the file of a backup; there is none")
        file = path.open("rb")
    except OSError as error:
        raise BackupError(f"{path}: the backup can't be read ({error.strerror})") from error
    if is_sealed(path):
        file.close()
        raise BackupError(
            f"{path}: the backup is sealed; swarm-hub restore asks for its passphrase"
        )
    with file:
        yield ArchiveReader(file, path)


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a file piece by piece."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def member_problem(name: str) -> str | None:
    """Return why a backup can't have a member of this name, or None."""
    if name == DATABASE_MEMBER:
        return None
    kind, _, rest = name.partition("/")
    fits = {
        "blobs": lambda: _BLOB_NAME.match(rest) is not None,
        "storage": lambda: _KEY_NAME.match(rest) is not None or rest in TOKEN_FILES,
        "config": lambda: _is_configuration(rest),
    }.get(kind)
    return None if fits is not None and fits() else f"{name[:200]!r} has no place in a hub"


def relative_problem(path: str) -> str | None:
    """Return why text isn't a plain path inside a directory, or None."""
    parts = path.split("/")
    if not path or len(path) > _TEXT_MAX or len(parts) > 32 or {"", ".", ".."} & set(parts):
        return f"{path[:200]!r} is no path inside a directory"
    if not path.isprintable() or max(len(part.encode()) for part in parts) > 255:
        return f"{path[:200]!r} can't be the name of a file"
    return None


def _is_configuration(path: str) -> bool:
    if relative_problem(path) is not None or path.startswith("."):
        return False
    pure = PurePosixPath(path)
    custom = pure.parts[0] == CUSTOM_COMPONENTS_DIR and len(pure.parts) > 1
    return custom or pure.suffix in YAML_SUFFIXES


def _manifest(content: Any) -> BackupManifest:
    members = tuple(
        Member(_text(each["name"]), _count(each["size_bytes"]), _text(each["sha256"]))
        for each in content["members"]
    )
    for member in members:
        _check_member(member)
    if len({member.name for member in members}) != len(members):
        raise ValueError("a member is there twice")
    database = None if content["database"] is None else _text(content["database"])
    if (database is not None) != any(each.name == DATABASE_MEMBER for each in members):
        raise ValueError("the database is only in the list or only in the file")
    if database is None and any(each.name.startswith(BLOBS_PREFIX) for each in members):
        raise ValueError("there are blobs without a database")
    return BackupManifest(
        hub=_text(content["hub"]),
        time=_text(content["time"]),
        db_id=None if database is None else _text(content["db_id"]),
        schema=None if database is None else _count(content["schema"]),
        database=database,
        members=members,
        missing=tuple(_text(each) for each in content["missing"]),
        version=_text(content["version"]),
        format=_count(content["format"]),
    )


def _check_member(member: Member) -> None:
    problem = member_problem(member.name)
    if problem is not None:
        raise ValueError(problem)
    if not SHA256_HEX.match(member.sha256):
        raise ValueError(f"{member.name} has no hash")
    blob = member.name.startswith(BLOBS_PREFIX)
    if blob and not member.name.endswith(member.sha256):
        raise ValueError(f"{member.name} has the hash of something else")
    if not blob and member.name != DATABASE_MEMBER and member.size_bytes > SMALL_MAX_BYTES:
        raise ValueError(f"{member.name} is larger than {SMALL_MAX_BYTES} bytes")


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX or not value.isprintable():
        raise ValueError(f"expected a line of text, got {json.dumps(value)[:80]}")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"expected a whole number, got {json.dumps(value)[:80]}")
    return value


def _header(name: str, size_bytes: int, made_at: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size_bytes, made_at, 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _member_bytes(name: str, size_bytes: int) -> int:
    return len(_header(name, size_bytes, 0)) + size_bytes + len(_padding(size_bytes))


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK)


@contextmanager
def _create(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
