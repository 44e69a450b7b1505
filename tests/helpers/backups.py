"""Backups that say what they like, and work on them that is killed at any step."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarm_hub.storage.backup.archive import ArchiveWriter, BackupManifest, Member
from swarm_hub.storage.schema import HEAD
from swarm_hub.util.hashing import sha256_hex

SCHEMA_VERSION = int(HEAD)


def forged(
    path: Path, change: Callable[[BackupManifest], BackupManifest], bodies: dict[str, bytes]
) -> Path:
    """Write a backup with right hashes whose manifest says what it likes."""
    members = tuple(Member(name, len(body), sha256_hex(body)) for name, body in bodies.items())
    manifest = change(
        BackupManifest("k", "2026-01-01T00:00:00+00:00", "ID", SCHEMA_VERSION, None, members)
    )
    with path.open("wb") as file:
        writer = ArchiveWriter(file, 0, len(manifest.to_json()))
        for name, body in bodies.items():
            writer.add(name, len(body), [body])
        writer.finish(manifest)
    return path


CONFIG = {"config/configuration.yaml": b"gateway:\n"}


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed before its n-th change of the disk; whether it was."""

    def child() -> None:
        left = step

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call_or_die(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*arguments, **options)

            return call_or_die

        for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0
