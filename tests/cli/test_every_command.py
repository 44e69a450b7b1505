"""Every command once, against a gateway with a worker; a new command needs its line here."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from click.testing import CliRunner

from swarm_hub.cli import main
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from swarm_hub.exceptions import HubError
from tests.conftest import EXAMPLES, Swarm
from tests.helpers.command_line import Done

ROOT: Final = Path(__file__).parents[2]

# What needs more than a gateway and a worker in one process: tried by these.
ELSEWHERE: Final = {
    "demo": "tests/restart/test_demo.py",
    "run": "tests/test_runner.py",
    "join": "tests/cli/test_join.py",
    "service install": "tests/cli/test_service.py",
    "service remove": "tests/cli/test_service.py",
    "service status": "tests/cli/test_service.py",
}
# They print bytes or text as they are.
WITHOUT_JSON: Final = {"demo", "job result", "data", "example", "completion"}


@dataclass(frozen=True, slots=True)
class Step:
    """A command, what is given to it, how it ends, and the name for what it prints."""

    command: str
    arguments: str = ""
    code: int = 0
    # A key of its JSON, or of the first of a list, whose value later steps need, and its name.
    keeps: tuple[str, str] | None = None


AUTOMATION: Final = "automation: [{alias: A, trigger: {cron: 0 0 1 1 *}, action: {notify: hi}}]\n"
# In this order; {home} is a directory of its own, {hub} that of the gateway.
STEPS: Final = (
    Step("init", "-c {home} --role worker"),
    Step("check", "-c {home}"),
    Step("schema", "-c {home}"),
    Step("doctor", "-c {hub}"),
    Step("key show", "-c {home}"),
    Step("key rotate", "-c {home}", keeps=("old_kid", "kid")),
    Step("key revoke", "{kid} -c {home}"),
    Step("token create", "phone -c {home}", keeps=("id", "token_id")),
    Step("token list", "-c {home}"),
    Step("token revoke", "{token_id} -c {home}"),
    Step("backup", "-c {home} --to {folder}/backup", keeps=("path", "backup")),
    Step("restore", "{backup} -c {folder}/restored"),
    Step("status", "-c {worker}"),
    Step("reload", "-c {worker}"),
    Step("repairs", "-c {worker}"),
    Step("pause", "2h -c {worker}"),
    Step("resume", "-c {worker}"),
    Step("invite", "-c {hub} --address /dns4/home.example/tcp/4001"),
    Step("gateways", "-c {hub}"),
    Step("inspect", "{primes}"),
    Step("example", "primes"),
    Step("completion", "bash"),
    Step("submit", "{primes} --range 0:100 --reduce sum -c {hub}", keeps=("job_id", "job")),
    Step("map", "len(x) {primes} --dry-run -c {hub}"),
    Step("job watch", "{job} -c {hub}", keeps=("module_sha", "sha")),
    Step("job list", "-c {hub}"),
    Step("job show", "{job} -c {hub}"),
    Step("job result", "{job} -c {hub}"),
    Step("job events", "{job} -c {hub}"),
    Step("job failures", "{job} -c {hub}"),
    Step("job receipts", "{job} -c {hub}"),
    Step("job rerun", "{job} -c {hub}"),
    Step("job cancel", "{job} -c {hub}", code=1),
    Step("top", "-c {hub}"),
    Step("data", "{sha} -c {hub}", code=1),
    Step("open", "--print -c {hub}"),
    Step("runtime list", "-c {hub}"),
    Step("runtime show", "python -c {hub}"),
    Step("runtime add", "javascript {module} -c {home}"),
    Step("runtime remove", "javascript -c {home}"),
    Step("automation list", "-c {hub}"),
    Step("automation trigger", "a -c {hub}"),
    Step("automation trace", "a -c {hub}"),
    Step("automation disable", "a -c {hub}"),
    Step("automation enable", "a -c {hub}"),
    Step("node list", "-c {hub}", keeps=("node_id", "node")),
    Step("node show", "{node} -c {hub}"),
    Step("node drain", "{node} -c {hub}"),
    Step("node undrain", "{node} -c {hub}"),
    Step("node label", "{node} place=attic --remove old -c {hub}"),
    Step("node ban", "{node} -c {hub}"),
    Step("node bans", "-c {hub}"),
    Step("node unban", "{node} -c {hub}"),
    Step("node approve", "{node} -c {hub}"),
)  # fmt: skip


def commands(group: click.Command = main, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Give every command that can be called, with its whole name."""
    if not isinstance(group, click.Group):
        yield name, group
        return
    context = click.Context(group)
    for each in group.list_commands(context):
        found = group.get_command(context, each)
        assert found is not None
        yield from commands(found, f"{name} {each}".strip())


def test_every_command_is_tried_and_prints_json_unless_it_is_known_not_to() -> None:
    found = dict(commands())
    assert {step.command for step in STEPS} | ELSEWHERE.keys() == found.keys()
    without = {name for name, each in found.items() if not has_json(each)}
    assert without == WITHOUT_JSON
    for command, file in ELSEWHERE.items():
        assert f'"{command.split()[-1]}"' in (ROOT / file).read_text()


def has_json(command: click.Command) -> bool:
    return any("--json" in each.opts for each in command.params)


def run(arguments: list[str]) -> Done:
    """Run a command in this process, which is quicker than one of its own."""
    done = CliRunner().invoke(main, arguments, standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, HubError):
        raise done.exception
    code = done.return_value or 0 if done.exception is None else 1
    return Done(code, done.stdout, done.stderr + str(done.exception or ""))


async def test_each_command_does_what_it_is_for(swarm: Swarm, tmp_path: Path) -> None:
    gateway = await swarm.gateway(extra=AUTOMATION)
    worker = await swarm.worker("kitchen")
    (gateway.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(gateway.token)
    found = dict(commands())
    (made := tmp_path / "module.wasm").write_bytes(b"\0asm\x01\0\0\0")
    known = {
        "home": f"{tmp_path / 'home'}",
        "folder": f"{tmp_path}",
        "hub": f"{gateway.folder}",
        "worker": f"{worker.folder}",
        "module": f"{made}",
        "primes": f"{EXAMPLES / 'primes' / 'primes.wat'}",
    }
    for step in STEPS:
        given = [*step.command.split(), *(each.format(**known) for each in step.arguments.split())]
        as_json = has_json(found[step.command])
        done = await asyncio.to_thread(run, [*given, *(["--json"] if as_json else [])])
        assert done.code == step.code, (step.command, done)
        if as_json and done.out:
            is_of_lines = step.command == "job events"
            told = json.loads(done.out.splitlines()[0] if is_of_lines else done.out)
            if step.keeps is not None:
                key, name = step.keeps
                known[name] = (told[0] if isinstance(told, list) else told)[key]
