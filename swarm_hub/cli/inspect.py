"""`inspect`, and everything else the command line does with modules."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from swarm_hub.cli.options import echo, json_option, print_json
from swarm_hub.components.sandbox import ModuleReport, Sandbox, SandboxError, is_wat, not_wasm
from swarm_hub.exceptions import HubError
from swarm_hub.tasks import TaskSupervisor

_T = TypeVar("_T")


@click.command("inspect")
@json_option
@click.argument("module", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def inspect_module(as_json: bool, module: Path) -> int:
    """Show what a Wasm module (or WAT text) exports and needs, and how it can be called."""

    raw = load_module(module)

    async def look(sandbox: Sandbox) -> ModuleReport:
        return await sandbox.inspect(await sandbox.as_wasm(raw))

    report = asyncio.run(with_sandbox(look))
    if as_json:
        print_json(report.to_plain())
    else:
        _print(report)
    return 0 if report.refused is None and report.abis else 1


def load_module(path: Path) -> bytes:
    """Return what a file has, Wasm or WAT text; raises HubError where it is neither."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise HubError(f"{path}: can't be read: {error.strerror}") from error
    if not is_wat(raw) and (problem := not_wasm(raw)) is not None:
        raise HubError(
            f"{path}: {problem}. Give a compiled module or WAT text; a script needs "
            "--runtime, or its interpreter: submit --with MODULE SCRIPT"
        )
    return raw


async def with_sandbox(work: Callable[[Sandbox], Awaitable[_T]]) -> _T:
    """Run `work` with a sandbox of its own, as Wasm is never parsed in this process."""
    tasks = TaskSupervisor()
    with tempfile.TemporaryDirectory(prefix="swarm-hub-") as folder:
        sandbox = Sandbox(cache_dir=Path(folder), slots=1, spawn=tasks.spawn)
        await sandbox.start()
        try:
            return await work(sandbox)
        except SandboxError as error:
            raise HubError(str(error)) from error
        finally:
            await sandbox.stop()
            await tasks.stop(timeout_s=2)


def _print(report: ModuleReport) -> None:
    for abi in report.abis:
        echo(f"abi      {abi}: {', '.join(report.entries(abi))}")
    if not report.abis:
        echo("abi      none: no export can be called as a job")
    if report.folds:
        echo("reduce   module: it folds the results of abi bytes itself")
    for each in report.exports:
        echo(f"export   {each.name} {each.kind} {each.type}")
    for needed in report.imports:
        echo(f"import   {needed.name} {needed.kind} {needed.type}")
    most = "no limit" if report.memory_max_bytes is None else f"{report.memory_max_bytes} bytes"
    echo(f"memory   {report.memory_min_bytes} bytes, at most {most}")
    if report.refused is not None:
        echo(f"refused  {report.refused}")
