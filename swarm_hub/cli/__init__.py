"""The command line `swarm-hub`: one file per group of commands, each imported when it is used."""

import importlib
import sys
from typing import Final

import click

from swarm_hub.cli.options import note
from swarm_hub.const import __version__
from swarm_hub.exceptions import (
    HubError,
    HubNotRunningError,
    NotAdmittedError,
    UnreachablePeerError,
)
from swarm_hub.util.extras import what_to_install

# command -> (module, attribute, one line of help)
_COMMANDS: Final = {
    "demo": ("demo", "demo", "Run three real jobs on a small swarm on this machine."),
    "init": ("hub", "init", "Make a configuration directory."),
    "run": ("hub", "run_hub", "Run the hub of a configuration directory."),
    "check": ("hub", "check", "Check a configuration directory."),
    "schema": ("schema", "schema", "Print the JSON Schema of configuration.yaml, for editors."),
    "doctor": ("doctor", "doctor", "Look for anything that would keep a hub from working here."),
    "key": ("key", "key", "Show, rotate and revoke signing keys."),
    "invite": ("invite", "invite", "Make a link with which a device joins this gateway."),
    "join": ("join", "join", "Make this device a worker of the gateway that invited it."),
    "open": ("open", "open_page", "Open the hub's page in the browser, logged in."),
    "token": ("token", "token", "Create, list and revoke API tokens."),
    "backup": ("backup", "backup", "Save a hub to one file, even while it runs."),
    "restore": ("backup", "restore", "Restore a configuration directory from a backup."),
    "reload": ("control", "reload", "Have a running hub take its changed configuration."),
    "status": ("control", "status", "Show what the hub on this device does."),
    "repairs": ("control", "repairs", "List what a person should do about the hub here."),
    "pause": ("control", "pause", "Have this device take no work for a while."),
    "resume": ("control", "resume", "Have a paused device take work again."),
    "service": ("service", "service", "Have the service manager keep a hub running."),
    "submit": ("submit", "submit", "Submit a job."),
    "map": ("map", "map_command", "Call a Python expression or function for each line."),
    "job": ("jobs", "job", "List, show and cancel jobs, and fetch results."),
    "top": ("top", "top", "Show nodes and jobs, live."),
    "data": ("jobs", "data", "Fetch a large result by its hash, from whoever has it."),
    "runtime": ("runtimes", "runtime", "List, add and remove what interprets programs."),
    "automation": ("automations", "automation", "List, trigger and trace automations."),
    "node": ("nodes", "node", "List, approve, ban and drain nodes."),
    "gateways": ("gateways", "gateways", "List the gateways that share a store."),
    "example": ("example", "example", "Print the module of an example, to submit it."),
    "completion": ("completion", "completion", "Print a script for a shell's completion."),
    "inspect": ("inspect", "inspect_module", "Show what a Wasm module exports and needs."),
}


class _LazyGroup(click.Group):
    """Commands whose modules are imported when they are called, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"swarm_hub.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from swarm_hub.helpers.config_validation import did_you_mean

            hint = did_you_mean(args[0], tuple(_COMMANDS))
            raise click.UsageError(f"{error.message.rstrip('.')}{hint}", ctx) from None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="swarm-hub")
def main() -> None:
    """Turn spare phones and computers into one compute cluster."""


def run(started_at: float) -> None:
    """Run the command line and exit with its code."""
    run_command(main, started_at, "swarm-hub")


def run_command(
    command: click.Command, context: object = None, prog_name: str | None = None
) -> None:
    """Run a command and exit with its code (0, 1, 2 usage, 3 unreachable, 4 refused)."""
    try:
        code = command(standalone_mode=False, obj=context, prog_name=prog_name)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        code = 0
    except HubError as error:
        note(f"swarm-hub: {error}")
        code = _exit_code(error)
    except ModuleNotFoundError as error:
        if (said := what_to_install(error)) is None:
            raise
        note(f"swarm-hub: {said}")
        code = 1
    except PermissionError as error:
        note(
            f"swarm-hub: {error.filename}: this user may not use it; run the command as the owner "
            "of the directory, or choose another with -c"
        )
        code = 1
    sys.exit(code or 0)


def _exit_code(error: HubError) -> int:
    if isinstance(error, HubNotRunningError | UnreachablePeerError):
        return 3
    if isinstance(error, NotAdmittedError):
        return 4
    # Only commands that talk to a hub have imported the client, and only they raise its errors.
    errors = sys.modules.get("swarm_hub.client.errors")
    if errors is None:
        return 1
    if isinstance(error, errors.UnreachableError):
        return 3
    if isinstance(error, errors.ApiError) and error.status in (401, 403):
        return 4
    return 1
