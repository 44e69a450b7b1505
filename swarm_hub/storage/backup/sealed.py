"""A backup sealed with a passphrase: whoever finds the file has neither the keys nor the jobs.

The key is made of the passphrase by scrypt. The backup follows in chunks of 1 MiB, each sealed with
AES-256-GCM; the nonce is the number of the chunk and whether it is the last one (the STREAM
construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015), so none can be left out, moved or
cut off at the end unnoticed.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from swarm_hub.exceptions import BackupError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUFFIX: Final = ".sealed"
PASSPHRASE_MIN_CHARS: Final = 8
_MAGIC: Final = b"swarm-hub backup, sealed 1\n"
_SALT_BYTES: Final = 16
_TAG_BYTES: Final = 16
_CHUNK_BYTES: Final = 1024 * 1024
# 128 MiB and half a second: what a guess costs as well.
_SCRYPT: Final = {"n": 2**17, "r": 8, "p": 1, "maxmem": 256 * 1024**2}


def is_sealed(file: Path) -> bool:
    """Whether a file is a backup that wants a passphrase."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def seal(plain: Path, sealed: BinaryIO, passphrase: str) -> None:
    """Write what is in `plain`, sealed."""
    salt = os.urandom(_SALT_BYTES)
    cipher, head = _cipher(passphrase, salt), _MAGIC + salt
    sealed.write(head)
    with plain.open("rb") as source:
        for nonce, chunk in _numbered(source, _CHUNK_BYTES):
            sealed.write(cipher.encrypt(nonce, chunk, head))


def unseal(file: Path, target: Path, passphrase: str) -> None:
    """Write what is in a sealed backup to the new file `target`; raises BackupError."""
    from cryptography.exceptions import InvalidTag

    with file.open("rb") as sealed:
        head = sealed.read(len(_MAGIC) + _SALT_BYTES)
        if len(head) != len(_MAGIC) + _SALT_BYTES:
            raise _damaged(file)
        cipher = _cipher(passphrase, head[len(_MAGIC) :])
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as plain:
                for nonce, chunk in _numbered(sealed, _CHUNK_BYTES + _TAG_BYTES):
                    plain.write(cipher.decrypt(nonce, chunk, head))
        except InvalidTag:
            target.unlink(missing_ok=True)
            raise _damaged(file) from None
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _cipher(passphrase: str, salt: bytes) -> "AESGCM":
    # Imported here because most hubs never seal a backup.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, **_SCRYPT))


def _numbered(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk with its nonce; also an empty file has one, the last."""
    number, chunk = 0, file.read(size)
    while True:
        following = file.read(size)
        yield number.to_bytes(11, "big") + (b"\0" if following else b"\1"), chunk
        if not following:
            return
        number, chunk = number + 1, following


def _damaged(file: Path) -> BackupError:
    return BackupError(
        f"{file}: the passphrase is another one, or the file is damaged or was changed; nothing "
        "was restored"
    )
