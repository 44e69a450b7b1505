"""Tokens in a store that several gateways share: one that is made at any of them is good at all.

They are kept here as they were last read. Whether any changed is asked once a second while there
are requests, and for a secret that is not known.
"""

import asyncio
import logging
import math
from typing import Final

from swarm_hub.exceptions import StoreError
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.models.token import Token, hash_of, is_expired, new_token
from swarm_hub.storage import Store
from swarm_hub.storage.queries import tokens
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.clock import Clock

_LOGGER = logging.getLogger(__name__)

# With the looks at the tokens of websockets, what another gateway revoked is refused within 2 s.
_TRUE_FOR_S: Final = 1.0


class StoredTokens:
    """The tokens of a shared store; implements `Tokens`."""

    def __init__(self, store: Store, clock: Clock, tasks: TaskSupervisor) -> None:
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._revision: str | None = None
        self._by_hash: dict[str, Token] = {}
        self._asked_at = -math.inf
        self._alone = asyncio.Lock()
        self._asking: asyncio.Task[None] | None = None

    async def take_over(self, file: TokenFile) -> None:
        """Move the tokens of a file, which a hub with a store of its own has, into the store."""
        if not (found := file.all()):
            return
        await self._store.change(tokens.add, found)
        await asyncio.to_thread(file.put_aside)
        _LOGGER.info("%d tokens are in the store from now on, not in a file", len(found))

    async def find(self, secret: str, now: float) -> Token | None:
        """Return the token with that secret, unless it has expired."""
        if (hashed := hash_of(secret)) is None:
            return None
        if self._is_old() or hashed not in self._by_hash:
            await self._ask()
        token = self._by_hash.get(hashed)
        return None if token is None or is_expired(token, now) else token

    def current(self, token: Token, now: float) -> bool:
        """Whether a token that was found before is neither revoked nor expired, as far as known."""
        if self._is_old() and (self._asking is None or self._asking.done()):
            self._asking = self._tasks.spawn(self._ask_for_others(), "tokens")
        return self._by_hash.get(token.sha256) == token and not is_expired(token, now)

    async def all(self) -> list[Token]:
        """Return every token, oldest first."""
        return await self._store.read(tokens.all_of)

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
        token, secret = new_token(name, scope, now, owner, expires_at, session=session)
        await self._store.change(tokens.create, token, now)
        return token, secret

    async def revoke(self, token_id: str) -> bool:
        """Remove a token; returns whether there was one with that id."""
        removed = await self._store.change(tokens.revoke, token_id)
        await self._ask()
        return removed

    def _is_old(self) -> bool:
        return self._clock.monotonic() - self._asked_at > _TRUE_FOR_S

    async def _ask(self) -> None:
        """Know every change that there was when this is called; raises StoreError."""
        since = self._clock.monotonic()
        async with self._alone:
            if self._asked_at > since:
                # Somebody else who waited has asked.
                return
            began = self._clock.monotonic()
            found = await self._store.read(tokens.changed, self._revision)
            if found is not None:
                self._revision, every = found
                self._by_hash = {token.sha256: token for token in every}
            self._asked_at = began

    async def _ask_for_others(self) -> None:
        try:
            await self._ask()
        except StoreError as error:
            _LOGGER.debug("Whether tokens were revoked is not known: %s", error)
