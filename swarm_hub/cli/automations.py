"""Commands on automations: which there are, what they did, and running one now."""

from typing import Any

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import Target, echo, hub_options, json_option, note, print_json
from swarm_hub.cli.tables import Column, print_table
from swarm_hub.client import SwarmClient


@click.group()
def automation() -> None:
    """List, trigger and trace automations."""


@automation.command("list")
@hub_options
@json_option
def list_automations(hub: Target, as_json: bool) -> int:
    """List the automations with the newest run of each."""

    async def work(swarm: SwarmClient) -> int:
        found = await swarm.automations()
        if as_json:
            print_json(found)
            return 0
        each = found["automations"]
        if not each:
            note("There are none; see docs/components/automation.md, and then: swarm-hub check")
            return 0
        runs: list[dict[str, Any]] = [one["last_run"] or {} for one in each]
        print_table(
            [
                Column("ID", [one["id"] for one in each]),
                Column("ALIAS", [one["alias"] for one in each], 2, may_be_cut=True),
                Column("ENABLED", ["yes" if one["enabled"] else "no" for one in each], 3),
                Column("DOES", [", ".join(one["actions"]) for one in each], 4, may_be_cut=True),
                Column("WAITING", [str(one["waiting"]) for one in each], 5, is_number=True),
                Column("LAST RUN", [run.get("created_at", "never") for run in runs], 1),
                Column("STATE", [run.get("state", "") for run in runs]),
            ]
        )
        if not found["acting"]:
            note("Another gateway of this store acts for all of them")
        for notice in found["notices"]:
            note(f"{notice['at']} {notice['automation']}: {notice['message']}")
        return 0

    return call(hub, work)


@automation.command()
@hub_options
@json_option
@click.argument("automation_id", metavar="ID")
@click.option("--job", "job_id", metavar="JOB", help="As if an event of this job triggered it.")
def trigger(hub: Target, as_json: bool, automation_id: str, job_id: str | None) -> int:
    """Run an automation now, whatever its conditions say."""

    async def work(swarm: SwarmClient) -> int:
        run = await swarm.trigger_automation(automation_id, job_id)
        if as_json:
            print_json(run)
        elif run["state"] == "open":
            echo(run["trigger_id"])
            note(f"Follow it with: swarm-hub automation trace {automation_id}")
        else:
            note(f"{run['trigger_id']} {run['state']}: {run['said']}")
        return 0 if run["state"] == "open" else 1

    return call(hub, work)


@automation.command()
@hub_options
@json_option
@click.argument("automation_id", metavar="ID")
def trace(hub: Target, as_json: bool, automation_id: str) -> int:
    """Show the last runs of an automation: what triggered each, and what came of each action."""

    async def work(swarm: SwarmClient) -> int:
        found = await swarm.automation_traces(automation_id)
        if as_json:
            print_json(found)
            return 0
        if not found:
            note("It was not triggered yet")
        for run in found:
            why = run["trigger"]["event_type"] or run["trigger"]["kind"]
            job = f" of job {run['trigger']['job_id']}" if run["trigger"]["job_id"] else ""
            said = f": {run['said']}" if run["said"] else ""
            echo(f"{run['created_at']} {run['state']}, {why}{job}{said}")
            for step in run["steps"]:
                tries = f" (tried {step['tries']} times)" if step["tries"] else ""
                echo(f"  {step['kind']} {step['state']}{tries} {step['said']}".rstrip())
        return 0

    return call(hub, work)


@automation.command()
@hub_options
@json_option
@click.argument("automation_id", metavar="ID")
def enable(hub: Target, as_json: bool, automation_id: str) -> int:
    """Let an automation be triggered again."""
    return _enable(hub, as_json, automation_id, enabled=True)


@automation.command()
@hub_options
@json_option
@click.argument("automation_id", metavar="ID")
def disable(hub: Target, as_json: bool, automation_id: str) -> int:
    """Let nothing trigger an automation, until it is enabled again."""
    return _enable(hub, as_json, automation_id, enabled=False)


def _enable(hub: Target, as_json: bool, automation_id: str, *, enabled: bool) -> int:
    async def work(swarm: SwarmClient) -> int:
        found = await swarm.enable_automation(automation_id, enabled=enabled)
        if as_json:
            print_json(found)
        note(f"{found['alias']} is {'enabled' if found['enabled'] else 'disabled'}")
        return 0

    return call(hub, work)
