"""A bearer token of the API, as it is stored: what it may, whose it is, and its secret's hash."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ulid_transform import ulid_now

from swarm_hub.exceptions import HubError
from swarm_hub.util.bounds import is_text

SCOPES: Final = ("read", "submit", "admin")
NAME_MAX_CHARS: Final = 64
SESSIONS_MAX: Final = 1000
_PREFIX: Final = "swh_"
_SECRET_MAX_CHARS: Final = 200


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


def is_expired(token: Token, now: float) -> bool:
    """Whether a token's time is over."""
    return token.expires_at is not None and now >= token.expires_at


def new_token(
    name: str,
    scope: str,
    now: float,
    owner: str | None = None,
    expires_at: float | None = None,
    *,
    session: bool = False,
) -> tuple[Token, str]:
    """Return a new token with its secret, which is shown only this once.

    Its owner is called like the token unless told otherwise. Raises HubError for a name that is no
    short text.
    """
    for text in (name, owner or name):
        if not is_text(text, NAME_MAX_CHARS, 1) or not text.isprintable():
            raise HubError(
                f"a token's name and owner have 1 to {NAME_MAX_CHARS} printable characters"
            )
    secret = _PREFIX + secrets.token_urlsafe(24)
    hashed = hashlib.sha256(secret.encode()).hexdigest()
    made = Token(ulid_now(), name, scope, hashed, now, owner or name, expires_at, session)
    return made, secret


def hash_of(secret: str) -> str | None:
    """Return the hash of a secret that somebody gave; None for what can be none.

    Looking it up leaks nothing through timing.
    """
    if not is_text(secret, _SECRET_MAX_CHARS):
        return None
    return hashlib.sha256(secret.encode()).hexdigest()


def outdated(tokens: Iterable[Token], now: float, new: Token) -> set[str]:
    """Return the ids of those that go when a new one comes.

    Sessions that have expired go, and of too many the oldest.
    """
    sessions = [each for each in tokens if each.session]
    gone = {each.id for each in sessions if is_expired(each, now)}
    left = sorted(each.id for each in sessions if each.id not in gone)
    return gone.union(left[: max(0, len(left) + new.session - SESSIONS_MAX)])
