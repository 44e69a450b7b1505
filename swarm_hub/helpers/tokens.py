"""Bearer tokens: stored hashed in one file, which is reread when another process changed it."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ulid_transform import ulid_now

from swarm_hub.exceptions import HubError
from swarm_hub.util.bounds import is_text
from swarm_hub.util.files import exclusive, write_atomic

SCOPES: Final = ("read", "submit", "admin")
_PREFIX: Final = "swh_"
_SECRET_MAX_CHARS: Final = 200
NAME_MAX_CHARS: Final = 64
SESSIONS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored; each scope includes those before it in `SCOPES`.

    `owner` is whose jobs it submits and sees; tokens of one person's devices may share one. One
    from before there were owners has none: it is an owner by itself, and sees every job. One of a
    `session` is known to a browser alone. Times are seconds since the epoch.
    """

    id: str
    name: str
    scope: str
    sha256: str
    created_at: float
    owner: str | None = None
    expires_at: float | None = None
    session: bool = False

    @property
    def account(self) -> str:
        """Who its jobs belong to."""
        return self.id if self.owner is None else self.owner

    @property
    def sees_all(self) -> bool:
        """Whether it sees jobs of other owners; one that submits sees only its own."""
        return self.owner is None or self.scope != "submit"

    def allows(self, scope: str) -> bool:
        """Whether this token includes `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class TokenFile:
    """The tokens of one hub; commands and the hub use it side by side."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._by_hash: dict[str, Token] = {}

    def find(self, secret: str, now: float) -> Token | None:
        """Return the token with that secret; looking up its hash leaks nothing through timing."""
        if not is_text(secret, _SECRET_MAX_CHARS):
            return None
        self._refresh()
        token = self._by_hash.get(_hash(secret))
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
        """Add a token; returns it with its secret, which is shown only this once.

        Its owner is called like the token unless told otherwise. Sessions that have expired go, and
        of too many the oldest. Raises HubError for a name that is no short text.
        """
        for text in (name, owner or name):
            if not is_text(text, NAME_MAX_CHARS, 1) or not text.isprintable():
                raise HubError(
                    f"a token's name and owner have 1 to {NAME_MAX_CHARS} printable characters"
                )
        secret = _PREFIX + secrets.token_urlsafe(24)
        token = Token(
            ulid_now(), name, scope, _hash(secret), now, owner or name, expires_at, session
        )
        with self._alone():
            known = [each for each in self.all() if not (each.session and is_expired(each, now))]
            sessions = [each.id for each in known if each.session]
            over = set(sessions[: max(0, len(sessions) + session - SESSIONS_MAX)])
            self._write([*(each for each in known if each.id not in over), token])
        return token, secret

    def revoke(self, token_id: str) -> bool:
        """Remove a token; returns whether there was one with that id."""
        with self._alone():
            kept = [token for token in self.all() if token.id != token_id]
            if len(kept) == len(self._by_hash):
                return False
            self._write(kept)
        return True

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


def is_expired(token: Token, now: float) -> bool:
    """Whether a token's time is over."""
    return token.expires_at is not None and now >= token.expires_at


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
