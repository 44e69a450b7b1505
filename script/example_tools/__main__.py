"""`script/example [NAME]`: lists the examples, or builds one and runs it on a swarm made for it."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from script.example_tools import catalog
from script.example_tools.catalog import ROOT, Example
from swarm_hub.cli import run_command
from swarm_hub.cli.options import note
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.config_validation import did_you_mean

_WORKERS: Final = 3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--workers", type=click.IntRange(min=1), default=_WORKERS, show_default=True)
def example(name: str | None, workers: int) -> None:
    """Build an example and run it on a gateway and a few workers; without NAME, list them."""
    known = catalog.names()
    if name is None:
        for each in known:
            click.echo(f"{each:12} {catalog.read(each).summary}")
        return
    if name not in known:
        hint = did_you_mean(name, tuple(known))
        raise click.UsageError(f"there is no example {name!r}{hint}; there are {', '.join(known)}")
    # Imported here because listing the examples needs none of it.
    from script.example_tools.build import build
    from swarm_hub.cli.inspect import load_module
    from swarm_hub.cli.watch import print_result

    chosen = catalog.read(name)
    note(f"Building {chosen.source.relative_to(ROOT)}")
    module = build(chosen.source)
    note(f"The module is {module.relative_to(ROOT)}")
    wasm = load_module(module)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-example-") as folder:
        result = asyncio.run(_run(chosen, wasm, Path(folder), workers))
    print_result(result if chosen.then is None else _then(chosen.then, result))


async def _run(chosen: Example, wasm: bytes, folder: Path, workers: int) -> bytes:
    from swarm_hub.cli.swarm import running_swarm
    from swarm_hub.cli.watch import follow, shown
    from swarm_hub.client import JobFailedError

    note(f"Starting a gateway and {workers} workers, each a process of its own")
    async with running_swarm(folder, [f"worker-{n}" for n in range(1, workers + 1)]) as (
        swarm,
        client,
    ):
        job_id = await client.submit(wasm, chosen.items, **chosen.spec)
        with shown() as screen:
            status = await follow(client, job_id, screen)
        if status["state"] != "completed":
            raise JobFailedError(status)
        names = {hub.peer_id: hub.name for hub in swarm.hubs}
        did = [f"{names[share['node_id']]} {share['shards']}" for share in status["nodes"]]
        note(f"Done in {status['duration_s']:.2f} s; shards: {', '.join(did)}")
        return await client.result(job_id)


def _then(script: Path, result: bytes) -> bytes:
    done = subprocess.run(
        [sys.executable, str(script)], input=result, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise HubError(f"{script.relative_to(ROOT)} failed with exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    # An end by SIGTERM is an interrupt too, so that the swarm's processes are ended with it, even
    # where whoever started this ignores SIGINT, as a shell does for what is in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    run_command(example, prog_name="script/example")
