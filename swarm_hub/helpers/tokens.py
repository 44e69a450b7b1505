"""The tokens of a hub: in a file, or in the store if several gateways share one.

The file is reread when another process changed it.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from swarm_hub.exceptions import HubError
from swarm_hub.models.token import (
    NAME_MAX_CHARS,
    SCOPES,
    SESSIONS_MAX,
    Token,
    hash_of,
    is_expired,
    new_token,
    outdated,
)
from swarm_hub.util.files import exclusive, write_atomic

if TYPE_CHECKING:
    from swarm_hub.core import Hub

__all__ = [
    "NAME_MAX_CHARS",
    "SCOPES",
    "SESSIONS_MAX",
    "FileTokens",
    "Token",
    "TokenFile",
    "Tokens",
    "is_expired",
    "tokens_of",
]


class Tokens(Protocol):
    """The tokens of one hub, or of all gateways that share a store."""

    async def find(self, secret: str, now: float) -> Token | None:
        """Return the token with that secret, unless it has expired."""

    def current(self, token: Token, now: float) -> bool:
        """Whether a token that was found before is neither revoked nor expired, as far as known.

        What another gateway revoked is known within 2 s.
        """

    async def all(self) -> list[Token]:
        """Return every token, oldest first."""

    async def create(
        self,
        name: str,
        scope: str,
        now: float,
        *,
        owner: str | None = None,
        expires_at: float | None = None,
        session: bool = False,
    ) -> tuple[Token, str]:
        """Add a token; returns it with its secret. Raises HubError as `new_token` does."""

    async def revoke(self, token_id: str) -> bool:
        """Remove a token; returns whether there was one with that id."""


async def tokens_of(hub: "Hub", path: Path) -> Tokens:
    """Return where the tokens of a hub are: `path`, or its store if others share it."""
    if not hub.store.shared:
        return FileTokens(path)
    from swarm_hub.helpers.stored_tokens import StoredTokens

    tokens = StoredTokens(hub.store, hub.clock, hub.tasks)
    await tokens.take_over(TokenFile(path))
    return tokens


class TokenFile:
    """The tokens of one hub; commands and the hub use it side by side."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._by_hash: dict[str, Token] = {}

    def find(self, secret: str, now: float) -> Token | None:
        """Return the token with that secret."""
        if (hashed := hash_of(secret)) is None:
            return None
        self._refresh()
        token = self._by_hash.get(hashed)
        return None if token is None or is_expired(token, now) else token

    def current(self, token: Token, now: float) -> bool:
        """Whether a token that was found before is neither revoked nor expired since."""
        self._refresh()
        return self._by_hash.get(token.sha256) == token and not is_expired(token, now)

    def all(self) -> list[Token]:
        """Return every token, oldest first."""
        self._refresh()
        return sorted(self._by_hash.values(), key=lambda token: token.id)

    def create(
        self,
        name: str,
        scope: str,
        now: float,
        *,
        owner: str | None = None,
        expires_at: float | None = None,
        session: bool = False,
    ) -> tuple[Token, str]:
        """Add a token; returns it with its secret. Raises HubError as `new_token` does."""
        token, secret = new_token(name, scope, now, owner, expires_at, session=session)
        with self._alone():
            known = self.all()
            gone = outdated(known, now, token)
            self._write([*(each for each in known if each.id not in gone), token])
        return token, secret

    def revoke(self, token_id: str) -> bool:
        """Remove a token; returns whether there was one with that id."""
        with self._alone():
            kept = [token for token in self.all() if token.id != token_id]
            if len(kept) == len(self._by_hash):
                return False
            self._write(kept)
        return True

    def put_aside(self) -> None:
        """Rename the file: its tokens are in a store from now on."""
        self._path.rename(self._path.with_suffix(".json.moved"))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Read and write as one step: a token read before its revocation must not be written."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(self._path.with_suffix(".lock")):
            self._read_at = None
            yield

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._by_hash, self._read_at = {}, None
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._read_at:
            return
        try:
            tokens = [Token(**plain) for plain in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError) as error:
            raise HubError(
                f"{self._path}: the token file can't be read ({error}); restore it, or delete it "
                "and make new tokens with: swarm-hub token create"
            ) from error
        self._by_hash = {token.sha256: token for token in tokens}
        self._read_at = stamp

    def _write(self, tokens: list[Token]) -> None:
        plain = [asdict(token) for token in tokens]
        for each in plain:
            # A hub from before there were sessions still reads a file without any.
            if not each["session"]:
                del each["session"]
        write_atomic(self._path, json.dumps(plain, indent=1).encode(), mode=0o600)


class FileTokens:
    """Those in a file, as a hub has them: to write waits for other processes, beside the loop."""

    def __init__(self, path: Path) -> None:
        # Each is used in one thread at a time.
        self._read, self._written = TokenFile(path), TokenFile(path)

    async def find(self, secret: str, now: float) -> Token | None:
        """Return the token with that secret, unless it has expired."""
        return self._read.find(secret, now)

    def current(self, token: Token, now: float) -> bool:
        """Whether a token that was found before is neither revoked nor expired since."""
        return self._read.current(token, now)

    async def all(self) -> list[Token]:
        """Return every token, oldest first."""
        return self._read.all()

    async def create(
        self,
        name: str,
        scope: str,
        now: float,
        *,
        owner: str | None = None,
        expires_at: float | None = None,
        session: bool = False,
    ) -> tuple[Token, str]:
        """Add a token; returns it with its secret. Raises HubError as `new_token` does."""
        return await asyncio.to_thread(
            partial(
                self._written.create, name, scope, now, owner=owner, expires_at=expires_at,
                session=session,
            )
        )  # fmt: skip

    async def revoke(self, token_id: str) -> bool:
        """Remove a token; returns whether there was one with that id."""
        return await asyncio.to_thread(self._written.revoke, token_id)
