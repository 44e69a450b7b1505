"""Commands on API tokens; they work beside a running hub."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from swarm_hub.cli.options import (
    config_option,
    echo,
    json_option,
    note,
    print_json,
    seconds,
    working_dir,
)
from swarm_hub.cli.tables import Column, print_table
from swarm_hub.cli.wording import local_time
from swarm_hub.config import read_configuration
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.credentials import url_for_others
from swarm_hub.exceptions import ConfigError, HubError
from swarm_hub.helpers.tokens import SCOPES, FileTokens, Token, TokenFile, Tokens, is_expired
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.clock import Clock, isoformat

_T = TypeVar("_T")


@click.group()
def token() -> None:
    """Create, list and revoke API tokens."""


@token.command()
@config_option
@json_option
@click.argument("name")
@click.option("--scope", type=click.Choice(SCOPES), default="submit", show_default=True)
@click.option(
    "--owner",
    help="Whose jobs it submits and sees (default: NAME); give all your devices the same.",
)
@click.option(
    "--expires",
    callback=seconds,
    help="How long it is valid, such as 90d (default: until it is revoked).",
)
def create(
    config_dir: Path, as_json: bool, name: str, scope: str, owner: str | None, expires: float | None
) -> None:
    """Create a token; its secret is printed only this once."""
    now = time.time()
    expires_at = None if expires is None else now + expires

    async def create_it(tokens: Tokens) -> tuple[Token, str]:
        return await tokens.create(name, scope, now, owner=owner, expires_at=expires_at)

    made, secret = _of_tokens(config_dir, create_it)
    if as_json:
        print_json({**_shape(made), "token": secret})
        return
    note(f"Token {made.id} ({name}, may {scope}); it won't be shown again:")
    echo(secret)
    if (url := url_for_others(config_dir)) is not None:
        note(f"Other devices reach this hub at {url}")


@token.command("list")
@config_option
@json_option
def list_tokens(config_dir: Path, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    found = _of_tokens(config_dir, lambda tokens: tokens.all())
    if as_json:
        print_json([_shape(each) for each in found])
        return
    if not found:
        note("There is no token; make one with: swarm-hub token create NAME")
        return
    print_table(
        [
            Column("ID", [each.id for each in found]),
            Column("SCOPE", [each.scope for each in found], 2),
            Column("NAME", [each.name for each in found], 1, may_be_cut=True),
            Column("OWNER", [each.owner or "" for each in found], 4, may_be_cut=True),
            Column("CREATED", [local_time(isoformat(each.created_at)) for each in found], 5),
            Column("EXPIRES", [_end(each) for each in found], 3),
        ]
    )


def _end(token: Token) -> str:
    if token.expires_at is None:
        return ""
    until = local_time(isoformat(token.expires_at))
    return f"expired {until}" if is_expired(token, time.time()) else until


def _shape(token: Token) -> dict[str, Any]:
    expires_at = None if token.expires_at is None else isoformat(token.expires_at)
    return {
        "id": token.id, "name": token.name, "scope": token.scope, "owner": token.owner,
        "expires_at": expires_at,
    }  # fmt: skip


@token.command()
@config_option
@json_option
@click.argument("token_id")
def revoke(config_dir: Path, as_json: bool, token_id: str) -> None:
    """Revoke a token; a running hub refuses it at once, others of its store within 2 s."""
    if not _of_tokens(config_dir, lambda tokens: tokens.revoke(token_id)):
        raise HubError(f"there is no token {token_id}; see: swarm-hub token list")
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        note(f"Token {token_id} is revoked")


def _of_tokens(config_dir: Path, work: Callable[[Tokens], Coroutine[Any, Any, _T]]) -> _T:
    """Do something with the tokens of a directory, whether its hub runs or not."""
    folder = working_dir(config_dir)

    async def run() -> _T:
        async with _tokens_of(folder) as tokens:
            return await work(tokens)

    return asyncio.run(run())


@asynccontextmanager
async def _tokens_of(folder: Path) -> AsyncIterator[Tokens]:
    path = folder / STORAGE_DIR / TOKENS_FILE
    try:
        storage = read_configuration(folder, "hub").storage
    except ConfigError:
        # Without a configuration a hub has a store of its own.
        storage = None
    if storage is None or not storage.shared:
        yield FileTokens(path)
        return
    # The database takes long to import, and most hubs need it for no token.
    from swarm_hub.helpers.stored_tokens import StoredTokens
    from swarm_hub.storage import Store
    from swarm_hub.storage.store import look_beside

    await asyncio.to_thread(look_beside, storage.url)
    store = Store.at(storage.url, folder, clock := Clock())
    await store.open()
    try:
        tokens = StoredTokens(store, clock, TaskSupervisor())
        await tokens.take_over(TokenFile(path))
        yield tokens
    finally:
        await store.close()
