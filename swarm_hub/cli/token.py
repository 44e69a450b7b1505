"""Commands on API tokens; they work beside a running hub."""

import time
from pathlib import Path

import click

from swarm_hub.cli.options import config_option, json_option, note, print_json, working_dir
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.tokens import SCOPES, TokenFile
from swarm_hub.util.clock import isoformat


@click.group()
def token() -> None:
    """Create, list and revoke API tokens."""


@token.command()
@config_option
@json_option
@click.argument("name")
@click.option("--scope", type=click.Choice(SCOPES), default="submit", show_default=True)
def create(config_dir: Path, as_json: bool, name: str, scope: str) -> None:
    """Create a token; its secret is printed only this once."""
    made, secret = _tokens(config_dir).create(name, scope, time.time())
    if as_json:
        print_json({"id": made.id, "name": name, "scope": scope, "token": secret})
        return
    note(f"Token {made.id} ({name}, may {scope}); it won't be shown again:")
    click.echo(secret)


@token.command("list")
@config_option
@json_option
def list_tokens(config_dir: Path, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    found = _tokens(config_dir).all()
    if as_json:
        print_json([{"id": each.id, "name": each.name, "scope": each.scope} for each in found])
        return
    for each in found:
        click.echo(f"{each.id}  {each.scope:6}  {isoformat(each.created_at)}  {each.name}")


@token.command()
@config_option
@click.argument("token_id")
def revoke(config_dir: Path, token_id: str) -> None:
    """Revoke a token; a running hub refuses it at once."""
    if not _tokens(config_dir).revoke(token_id):
        raise HubError(f"there is no token {token_id}; see: swarm-hub token list")
    note(f"Token {token_id} is revoked")


def _tokens(config_dir: Path) -> TokenFile:
    return TokenFile(working_dir(config_dir) / STORAGE_DIR / TOKENS_FILE)
