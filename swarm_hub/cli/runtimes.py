"""Commands on the runtimes of a gateway: what interprets programs that are no Wasm modules."""

from pathlib import Path
from typing import Any

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import (
    Target,
    config_option,
    echo,
    hub_options,
    json_option,
    note,
    print_json,
    working_dir,
)
from swarm_hub.cli.tables import Column, print_table
from swarm_hub.client import SwarmClient
from swarm_hub.const import STORAGE_DIR
from swarm_hub.exceptions import HubError
from swarm_hub.util.units import format_size


@click.group()
def runtime() -> None:
    """List, add and remove what interprets programs."""


@runtime.command("list")
@hub_options
@json_option
def list_runtimes(hub: Target, as_json: bool) -> int:
    """List the languages of programs, and the runtime that the hub has for each."""

    async def work(swarm: SwarmClient) -> int:
        found = await swarm.runtimes()
        if as_json:
            print_json(found)
            return 0
        print_table(
            [
                Column("NAME", [each["name"] for each in found]),
                Column("FILES", [" ".join(each["endings"]) for each in found], 3),
                Column("SIZE", [_size(each) for each in found], 2),
                Column("FROM", [each["origin"] or _none(each) for each in found], 1),
            ]
        )
        return 0

    return call(hub, work)


@runtime.command()
@hub_options
@json_option
@click.argument("name")
def show(hub: Target, as_json: bool, name: str) -> int:
    """Show a runtime, and how far the nodes are that prepare it."""

    async def work(swarm: SwarmClient) -> int:
        found = next((each for each in await swarm.runtimes() if each["name"] == name), None)
        if found is None:
            raise HubError(f"there is no runtime {name!r}; see: swarm-hub runtime list")
        states = [
            {"node_id": node["node_id"], "name": node["name"], "state": said}
            for node in await swarm.nodes()
            if (said := (node["telemetry"].get("runtimes") or {}).get(found["sha256"]))
        ]
        if as_json:
            print_json({**found, "nodes": states})
            return 0
        echo(f"{'runtime':9} {name}, for {' '.join(found['endings'])}")
        echo(f"{'from':9} {found['origin'] or _none(found)}")
        if found["sha256"]:
            echo(f"{'sha256':9} {found['sha256']}, {_size(found)}")
        for each in states:
            echo(f"{'node':9} {each['name']}: {each['state']}")
        return 0

    return call(hub, work)


@runtime.command()
@config_option
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def add(config_dir: Path, name: str, file: Path, as_json: bool) -> None:
    """Have the hub take FILE, a Wasm module, as its runtime for the language NAME.

    It stays where it is; the hub uses it from its next start on, as long as it is the same.
    """
    from swarm_hub.components.runtimes import hash_of, read_added, write_added

    _check(name)
    storage = working_dir(config_dir) / STORAGE_DIR
    path = file.resolve()
    sha = hash_of(path)
    write_added(storage, {**read_added(storage), name: {"path": str(path), "sha256": sha}})
    note(f"The runtime {name} is {path} from the next start of the hub on")
    if as_json:
        print_json({"name": name, "path": str(path), "sha256": sha})
    else:
        echo(sha)


@runtime.command()
@config_option
@click.argument("name")
@json_option
def remove(config_dir: Path, name: str, as_json: bool) -> None:
    """Have the hub forget what `add` gave it; what a package has is removed with pip."""
    from swarm_hub.components.runtimes import read_added, write_added

    _check(name)
    storage = working_dir(config_dir) / STORAGE_DIR
    added = read_added(storage)
    if name not in added:
        raise HubError(f"no runtime {name} was added here; packages are removed with pip")
    removed = added.pop(name)
    write_added(storage, added)
    if as_json:
        print_json({"name": name, **removed})
    note(f"The runtime {name} is forgotten from the next start of the hub on")


def _check(name: str) -> None:
    from swarm_hub.components.runtimes import LANGUAGES

    if name not in LANGUAGES:
        raise HubError(f"there is no language {name!r}; known: {', '.join(LANGUAGES)}")


def _size(found: dict[str, Any]) -> str:
    return "" if found["size_bytes"] is None else format_size(found["size_bytes"])


def _none(found: dict[str, Any]) -> str:
    return f"not here: {found['get']}"
