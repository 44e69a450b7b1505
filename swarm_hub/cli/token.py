"""Commands on API tokens; they work beside a running hub."""

import time
from pathlib import Path
from typing import Any

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
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.credentials import url_for_others
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.tokens import SCOPES, Token, TokenFile, is_expired
from swarm_hub.util.clock import isoformat


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
    made, secret = _tokens(config_dir).create(name, scope, now, owner=owner, expires_at=expires_at)
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
    found = _tokens(config_dir).all()
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
    """Revoke a token; a running hub refuses it at once."""
    if not _tokens(config_dir).revoke(token_id):
        raise HubError(f"there is no token {token_id}; see: swarm-hub token list")
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        note(f"Token {token_id} is revoked")


def _tokens(config_dir: Path) -> TokenFile:
    return TokenFile(working_dir(config_dir) / STORAGE_DIR / TOKENS_FILE)
