"""Commands on jobs that were submitted: list, show, watch, cancel, result, failures and so on."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import (
    Target,
    echo,
    hub_options,
    json_option,
    note,
    pairs,
    print_json,
    seconds,
)
from swarm_hub.cli.selection import node_names, the_job
from swarm_hub.cli.tables import Column, print_table
from swarm_hub.cli.watch import note_of_failed_items, note_of_result, print_result, watched
from swarm_hub.cli.wording import age, local_time, share, short_node_id, short_sha
from swarm_hub.client import SwarmClient
from swarm_hub.exceptions import HubError
from swarm_hub.models.job import JobState
from swarm_hub.util.units import format_duration, format_size

_DETAILS: Final = ("job_id", "name", "state", "owner", "module_sha", "reduce")
_TIMES: Final = ("created_at", "started_at", "finished_at")
_JOB: Final = click.argument("job_id", metavar="JOB")
# What is said of an event after its name; the rest of its data is for `--json`.
_TOLD: Final = ("message", "reason")


@click.group()
def job() -> None:
    """List, show, watch and cancel jobs, fetch results and check their receipts.

    JOB is a job's id, or so much of its beginning that only one job has it.
    """


def _states(_ctx: object, _option: object, texts: tuple[str, ...]) -> str:
    words = [word for text in texts for word in text.split(",")]
    for word in words:
        if word not in tuple(JobState):
            raise click.BadParameter(f"expected {', '.join(JobState)}, got {word!r}")
    return ",".join(words)


@job.command("list")
@hub_options
@json_option
@click.option(
    "--state", callback=_states, multiple=True, metavar="STATE[,STATE]",
    help="Only jobs that are queued, running, completed, failed or cancelled.",
)  # fmt: skip
@click.option(
    "--label", "labels", callback=pairs, multiple=True, metavar="NAME=TEXT",
    help="Only jobs with this label (repeatable).",
)  # fmt: skip
@click.option("--owner", help="Only jobs of this owner.")
@click.option("--text", help="Only jobs with this in their id, name or labels.")
@click.option("--since", callback=seconds, help="Only jobs submitted within this time, e.g. 2h.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many."
)
@click.option("--all", "all_jobs", is_flag=True, help="All of them, without a limit.")
def list_jobs(
    hub: Target,
    as_json: bool,
    state: str,
    labels: dict[str, str],
    owner: str | None,
    text: str | None,
    since: float | None,
    limit: int,
    all_jobs: bool,
) -> None:
    """List the newest jobs, the newest first."""
    since_time = None if since is None else round(time.time() - since)
    asked = {"state": state, "owner": owner, "text": text, "since": since_time}
    wanted = {name: value for name, value in asked.items() if value}
    wanted |= {f"label.{name}": value for name, value in labels.items()}
    found = call(hub, lambda swarm: swarm.jobs(None if all_jobs else limit, wanted))
    if as_json:
        print_json(found)
    elif found:
        print_table(job_columns(found))
    else:
        note("There is no such job" if wanted else "No job was submitted yet")


def job_columns(found: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the table of jobs; a hub of an earlier version does not tell all of it."""
    progress = [share(each["progress"]["items_done"], each["progress"]["items"]) for each in found]
    return [
        Column("JOB", [each["job_id"] for each in found]),
        Column("STATE", [each["state"] for each in found], 1),
        Column("NAME", [each.get("name") or "" for each in found], 3, may_be_cut=True),
        Column("ITEMS", progress, 2, is_number=True),
        Column("AGE", [age(each["created_at"]) for each in found], 4, is_number=True),
        Column("TOOK", [_took(each) for each in found], 5, is_number=True),
        Column("OWNER", [each.get("owner") or "" for each in found], 6, may_be_cut=True),
        Column("MODULE", [short_sha(each.get("module_sha") or "") for each in found], 7),
    ]


def _took(status: Mapping[str, Any]) -> str:
    return "" if status["duration_s"] is None else format_duration(status["duration_s"])


@job.command()
@hub_options
@json_option
@_JOB
def show(hub: Target, as_json: bool, job_id: str) -> None:
    """Show a job: its state, progress, failures and what each node did."""

    async def work(swarm: SwarmClient) -> None:
        status = await swarm.status(await the_job(swarm, job_id))
        if as_json:
            print_json(status)
            return
        _print_job(status, await node_names(swarm) if status.get("nodes") else {})
        note_of_failed_items(status)

    call(hub, work)


def _print_job(status: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name in _DETAILS:
        if status.get(name) is not None:
            echo(f"{name:12} {status[name]}")
    labels = status.get("labels") or {}
    for name, value in labels.items():
        echo(f"{'label':12} {name}={value}")
    for name in _TIMES:
        if status.get(name) is not None:
            echo(f"{name:12} {local_time(status[name])}")
    if status.get("duration_s") is not None:
        echo(f"{'duration':12} {_took(status)}")
    progress = status["progress"]
    echo(
        f"{'progress':12} {progress['items_done']:,} of {progress['items']:,} items, "
        f"{progress['shards_done']:,} of {progress['shards']:,} shards, "
        f"{progress['retries']:,} retries"
    )
    for name in ("waits", "problem", "note"):
        if status.get(name):
            echo(f"{name:12} {status[name]}")
    for failure in status.get("failures", ()):
        echo(f"{'failure':12} {failure}")
    for each in status.get("nodes", ()):
        peak, node_id = each["peak_memory_bytes"], each["node_id"]
        echo(
            f"{'node':12} {names.get(node_id, '')} {short_node_id(node_id)}: "
            f"{each['shards']} shards, {format_duration(each['wall_s'])}, "
            f"{format_duration(each['cpu_s'])} of CPU"
            + (f", {format_size(peak)} at most" if peak else "")
        )


@job.command()
@hub_options
@json_option
@click.option("--nodes", "with_nodes", is_flag=True, help="Show a line for each node too.")
@_JOB
def watch(hub: Target, as_json: bool, with_nodes: bool, job_id: str) -> int:
    """Wait for a job, show its progress on stderr and print the result.

    Ctrl-C ends the watching, not the job. When the gateway goes away, it is waited for.
    """

    async def work(swarm: SwarmClient) -> int:
        return await watched(swarm, await the_job(swarm, job_id), as_json, with_nodes)

    return call(hub, work)


@job.command()
@hub_options
@json_option
@click.option("--watch", "wait", is_flag=True, help="Wait, show progress and print the result.")
@click.option("--failed", is_flag=True, help="Only the items that failed (see job failures).")
@_JOB
def rerun(hub: Target, as_json: bool, wait: bool, failed: bool, job_id: str) -> int:
    """Submit a job once more: the same module, inputs and spec. Prints the id of the new one."""

    async def work(swarm: SwarmClient) -> int:
        found_id = await the_job(swarm, job_id)
        new_id = await swarm.resubmit(found_id, items="failed" if failed else None)
        if wait:
            note(f"Job {new_id}")
            return await watched(swarm, new_id, as_json)
        if as_json:
            print_json({"job_id": new_id})
        else:
            echo(new_id)
        return 0

    return call(hub, work)


@job.command()
@hub_options
@json_option
@_JOB
def cancel(hub: Target, as_json: bool, job_id: str) -> int:
    """Cancel a job."""

    async def work(swarm: SwarmClient) -> dict[str, Any]:
        return await swarm.cancel(await the_job(swarm, job_id))

    status = call(hub, work)
    if as_json:
        print_json(status)
    else:
        note(f"Job {status['job_id']} is {status['state']}")
    return 0 if status["state"] == "cancelled" else 1


@job.command()
@hub_options
@_JOB
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
@click.option(
    "--partial", is_flag=True, help="Of a failed or cancelled job, the result of what was done."
)
def result(hub: Target, job_id: str, output: Path | None, partial: bool) -> None:
    """Print or save the bytes of a completed job's result.

    With --partial also what was done of a job that failed or was cancelled.
    """

    async def work(swarm: SwarmClient) -> bytes:
        found_id = await the_job(swarm, job_id)
        body = await swarm.result(found_id, partial=partial)
        status = await swarm.status(found_id)
        if status["state"] != "completed":
            progress = status["progress"]
            note(
                f"Job {found_id} is {status['state']}: this is the result of "
                f"{progress['items_done']} of {progress['items']} items"
            )
        note_of_result(status)
        note_of_failed_items(status)
        return body

    _give(call(hub, work), output)


@job.command()
@hub_options
@json_option
@_JOB
def failures(hub: Target, as_json: bool, job_id: str) -> None:
    """List the items of a job on which its module failed: where they are, why and on which nodes.

    They are skipped (left out of the result), failed, cancelled, or retrying.
    """

    async def work(swarm: SwarmClient) -> None:
        found = []
        async for each in swarm.failures(await the_job(swarm, job_id)):
            if as_json:
                found.append(each)
            else:
                echo(f"{each['state']:9}  {each['message']}")
        if as_json:
            print_json(found)

    call(hub, work)


@job.command()
@hub_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, each event on a line.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@_JOB
def events(hub: Target, as_json: bool, follow: bool, job_id: str) -> None:
    """List what happened to a job, from its submission on: each shard given out, done or failed."""
    from swarm_hub.cli.following import job_events

    async def work(swarm: SwarmClient) -> None:
        found_id = await the_job(swarm, job_id)
        names = await node_names(swarm)
        async for event in job_events(swarm, found_id, follow=follow):
            echo(json.dumps(event, ensure_ascii=False) if as_json else _event_line(event, names))

    call(hub, work)


def _event_line(event: Mapping[str, Any], names: Mapping[str, str]) -> str:
    data = event["data"]
    parts = []
    if "index" in data:
        parts.append(f"shard {data['index']}")
    if "n_items" in data:
        parts.append(f"{data['n_items']:,} items")
    if node_id := data.get("node_id"):
        parts.append(f"on {names.get(node_id) or short_node_id(node_id)}")
    if data.get("wall_s") is not None:
        parts.append(format_duration(data["wall_s"]))
    parts += [str(data[name]) for name in _TOLD if data.get(name)]
    parts += [str(each) for each in data.get("failures") or ()]
    return f"{local_time(event['time_fired'])}  {event['event_type']:14}  {', '.join(parts)}"


@job.command()
@hub_options
@json_option
@_JOB
def receipts(hub: Target, as_json: bool, job_id: str) -> int:
    """Check the signed receipts of a job's results here, without believing the hub.

    Shows the shard, node and hash of each result, the key that signed it, and whether it counts or
    why its receipt is INVALID. The exit code is 1 if one is.
    """
    from swarm_hub.cli.receipts import check_receipts

    async def work(swarm: SwarmClient) -> int:
        return await check_receipts(swarm, await the_job(swarm, job_id), as_json)

    return call(hub, work)


@click.command()
@hub_options
@click.argument("sha")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
def data(hub: Target, sha: str, output: Path | None) -> None:
    """Print or save a large result by its SHA-256, whichever hub has it (needs `content:`)."""
    _give(call(hub, lambda swarm: swarm.data(sha)), output)


def _give(body: bytes, output: Path | None) -> None:
    if output is not None:
        try:
            output.write_bytes(body)
        except OSError as error:
            raise HubError(f"-o {output}: can't be written: {error.strerror}") from error
        note(f"{len(body)} bytes in {output}")
    else:
        print_result(body)
