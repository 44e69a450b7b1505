"""Commands on a configuration directory: init, run, check."""

import contextlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from swarm_hub.cli.options import (
    config_option,
    echo,
    json_option,
    note,
    print_json,
    working_dir,
)
from swarm_hub.const import CONFIG_FILE, NAME_MAX_CHARS, __version__
from swarm_hub.exceptions import ConfigError, ConfigProblem, HubError
from swarm_hub.util.bounds import is_text, shown
from swarm_hub.util.process_log import open_log

if TYPE_CHECKING:
    from swarm_hub.core import Hub

_ROLES: Final = ("both", "gateway", "worker")
_PUBLIC_KEY: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def _dialable(_ctx: object, _option: object, addresses: tuple[str, ...]) -> tuple[str, ...]:
    from swarm_hub.components.mesh import parse_dial_address
    from swarm_hub.exceptions import MeshError

    for address in addresses:
        try:
            parse_dial_address(address)
        except MeshError as error:
            raise click.BadParameter(str(error)) from None
    return addresses


def _public_keys(_ctx: object, _option: object, keys: tuple[str, ...]) -> tuple[str, ...]:
    for each in keys:
        if not _PUBLIC_KEY.fullmatch(each):
            raise click.BadParameter(
                f"{each!r}: expected 64 hex digits, the public_key of `swarm-hub key show`"
            )
    return keys


@click.command()
@config_option
@click.option(
    "--role", type=click.Choice(list(_ROLES)),
    help="What this device does: asked on a terminal, else both.",
)  # fmt: skip
@click.option("--name", help="The hub's name; by default that of the device.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8470,
    show_default=True,
    help="The API's port.",
)
@click.option(
    "--mesh-port",
    type=click.IntRange(0, 65535),
    default=4001,
    show_default=True,
    help="The mesh's port.",
)
@click.option(
    "--bootnode",
    multiple=True,
    callback=_dialable,
    help="A gateway's address, …/p2p/<peer id> (repeatable).",
)
@click.option(
    "--trust",
    multiple=True,
    callback=_public_keys,
    help="The public key of a gateway that a worker obeys (repeatable).",
)
@json_option
def init(
    config_dir: Path,
    as_json: bool,
    role: str | None,
    name: str | None,
    port: int,
    mesh_port: int,
    bootnode: tuple[str, ...],
    trust: tuple[str, ...],
) -> None:
    """Make a configuration directory with keys and an admin token.

    On a terminal it asks what this device does and what it is called, unless options say so. The
    file explains itself, and names the JSON Schema beside it with which editors complete and check
    it (swarm-hub schema).
    """
    # It makes keys, which no hub that runs has to.
    from swarm_hub.cli.directory import configuration, make_directory

    path = config_dir / CONFIG_FILE
    if path.exists():
        raise HubError(f"{path} exists already; edit it, or choose another directory with -c")
    # Whoever names a role has decided, and a script is not asked.
    asks = role is None and not as_json and sys.stdin.isatty() and sys.stderr.isatty()
    if asks:
        role = _asked("What does this device do?", "both", click.Choice(list(_ROLES)))
    role = role or "both"
    device = platform.node() or "hub"
    if name is None:
        name = _asked("What is it called?", device) if asks else device[:NAME_MAX_CHARS]
    if not is_text(name, NAME_MAX_CHARS, 1):
        raise click.BadParameter(
            f"expected 1 to {NAME_MAX_CHARS} characters, got {shown(name)}", param_hint="--name"
        )
    text = configuration(
        "init", role, name,
        port=port, mesh_port=mesh_port, bootnodes=bootnode, trust=trust,
    )  # fmt: skip
    made = make_directory(config_dir, text)
    if as_json:
        print_json(
            {
                "config": str(config_dir),
                "name": name,
                "role": role,
                "node_id": made.peer_id,
                "public_key": made.public_key.hex(),
            }
        )
        return
    note(f"Made {path}")
    if role == "worker" and not (bootnode and trust):
        note(
            f"It has no gateway yet: swarm-hub join LINK -c {config_dir}, with a link of its invite"
        )
    note(f"Next: swarm-hub run -c {config_dir}")


def _asked(question: str, default: str, kind: Any = None) -> str:
    answer: str = click.prompt(question, default=default, type=kind or click.STRING, err=True)
    return answer


_safe_mode_option = click.option(
    "--safe-mode", is_flag=True,
    help="Without the components and platforms in custom_components.",
)  # fmt: skip


@click.command("run")
@config_option
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
@click.option(
    "--log", "log_file", type=click.Path(dir_okay=False, path_type=Path),
    help="Log to this file, not to stderr; at 1 MiB a new one is begun, and five old ones kept.",
)  # fmt: skip
@click.option("--log-json", is_flag=True, help="Log lines of JSON, for programs that collect them.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON on stdout once it is ready."
)
@_safe_mode_option
@click.option(
    "--no-recovery", is_flag=True,
    help="End with an error when the configuration can't be used.",
)  # fmt: skip
@click.pass_obj
def run_hub(
    started_at: float | None,
    config_dir: Path,
    verbose: int,
    log_file: Path | None,
    log_json: bool,
    as_json: bool,
    safe_mode: bool,
    no_recovery: bool,
) -> int:
    """Run the hub of a configuration directory, in the foreground.

    Ctrl-C (SIGINT) or SIGTERM stops it: nodes are told, what is acknowledged is on disk, and its
    jobs go on when it runs again. SIGKILL loses nothing either.

    SIGHUP has it take its changed configuration, as `swarm-hub reload` does.

    The log goes to stderr, or with --log to a file: INFO and above, with -v -v everything. As a
    service (swarm-hub service install) it is where the service manager keeps it. The section
    logger: says more; what is said here counts more than that.

    With a configuration that can't be used it serves the page and the API on 127.0.0.1, to mend it
    there, if the last one that could be used had an API; else it says what is wrong and ends.
    """
    try:
        open_log(log_file, as_json=log_json, debug=verbose > 1)
    except HubError as error:
        raise HubError(f"--log: {error}") from None
    from swarm_hub.runner import run

    return run(
        working_dir(config_dir),
        started_at or time.monotonic(),
        _say_ready if as_json else None,
        safe_mode=safe_mode,
        recovers=not no_recovery,
    )


def _say_ready(hub: "Hub") -> None:
    told = {
        "ready": True,
        "name": hub.name,
        "version": __version__,
        "roles": sorted(hub.roles),
        "process_id": os.getpid(),
        "config": str(hub.config_dir),
    }
    # Whoever started it may have gone; that ends no hub.
    with contextlib.suppress(OSError):
        echo(json.dumps(told, ensure_ascii=False))


@click.command()
@config_option
@json_option
@click.option("--show", is_flag=True, help="Print every value that counts, and where it is from.")
@click.option("--files", "show_files", is_flag=True, help="List every file that was read.")
@click.option(
    "--timing", is_flag=True,
    help="Say how long each component takes to be imported, and took in the hub that runs here.",
)  # fmt: skip
@_safe_mode_option
def check(
    config_dir: Path, as_json: bool, show: bool, show_files: bool, timing: bool, safe_mode: bool
) -> int:
    """Check a configuration directory; list every problem and exit 1 if a hub can't run on it.

    It says whatever `run` would say, and changes nothing: also that a key can be read by others, a
    port is in use, or the database is of a newer version. A warning does not count.
    """
    from swarm_hub import preflight
    from swarm_hub.cli import configured

    try:
        configuration, planned, found = preflight.everything(config_dir, safe_mode=safe_mode)
    except ConfigError as error:
        if as_json:
            print_json({"valid": False, "problems": [_plain(each) for each in error.problems]})
        else:
            _note_all(error.problems)
        return 1
    domains = [component.manifest.domain for component in planned.components]
    problems = [each.problem for each in found if each.stops]
    warnings = [each.problem for each in found if not each.stops]
    values = configured.values(configuration, planned) if show else []
    files = configured.files(configuration) if show_files else []
    times = configured.timing(configuration, planned) if timing else []
    if as_json:
        told: dict[str, Any] = {"valid": not problems}
        if problems:
            told["problems"] = [_plain(each) for each in problems]
        told["warnings"] = [_plain(each) for each in warnings]
        told["components"] = domains
        if show:
            told["configuration"] = configured.as_json(values)
        if show_files:
            told["files"] = files
        if timing:
            told["timing"] = times
        print_json(told)
        return 1 if problems else 0
    for line in (*configured.as_yaml(values), *files, *configured.timing_lines(times)):
        echo(line)
    _note_all(problems)
    _note_all(warnings, "warning: ")
    if not problems:
        note(f"{config_dir / CONFIG_FILE} is valid; it loads: {', '.join(domains)}")
    return 1 if problems else 0


def _plain(problem: ConfigProblem) -> dict[str, Any]:
    return {
        "file": problem.file, "line": problem.line, "path": problem.path,
        "message": problem.message,
    }  # fmt: skip


def _note_all(problems: Iterable[ConfigProblem], before: str = "") -> None:
    for problem in problems:
        note(f"{before}{problem}")
