"""Commands that save a hub to one file and bring it back."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import click

from swarm_hub.cli.options import config_option, echo, json_option, note, print_json, working_dir
from swarm_hub.config import Configuration, read_configuration
from swarm_hub.exceptions import ConfigError

if TYPE_CHECKING:
    from swarm_hub.storage.backup.archive import BackupManifest, Progress

_DEFAULT_FOLDER: Final = "backups"
_PASSPHRASE: Final = "SWARM_HUB_PASSPHRASE"
# What may follow `?` in a PostgreSQL address without giving a secret away.
_HARMLESS_OPTIONS: Final = (
    "host", "port", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
)  # fmt: skip


@click.command()
@config_option
@click.option(
    "--to",
    metavar="FILE_OR_DIR",
    help="A new file or a directory; by default backups/ in the configuration directory.",
)
@click.option(
    "--passphrase", is_flag=True, help=f"Seal the file; asked for, or taken from {_PASSPHRASE}."
)
@json_option
def backup(config_dir: Path, to: str | None, as_json: bool, passphrase: bool) -> int:
    """Save a hub to one file, even while it runs; exit 1 if something could not be saved."""
    from swarm_hub.storage.backup.backup import make_backup, make_sealed_backup, new_file
    from swarm_hub.storage.backup.sealed import SUFFIX
    from swarm_hub.store_care import backup_source

    configuration = with_storage(working_dir(config_dir))
    source, now = backup_source(configuration), time.time()
    target = Path(to) if to else config_dir / _DEFAULT_FOLDER
    if to is None or to.endswith(os.sep) or target.is_dir():
        target = new_file(target, source.hub, now)
        if passphrase:
            target = target.with_name(f"{target.name}{SUFFIX}")
    secret = _passphrase(confirm=True) if passphrase else None
    with _progress_bar() as progress:
        if secret is None:
            made = make_backup(source, target, now, progress)
        else:
            made = make_sealed_backup(source, target, now, secret, progress)
    for problem in made.problems:
        note(problem)
    if configuration.storage.shared:
        note(
            "The backup does not contain the database; save that with: "
            f"{_dump(configuration.storage.url)}"
        )
    if as_json:
        described = _described(made.manifest)
        print_json(
            {
                "path": str(made.path),
                "size_bytes": made.size_bytes,
                **described,
                "problems": list(made.problems),
            }
        )
    else:
        echo(str(made.path))
    return 1 if made.problems else 0


@click.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@config_option
@json_option
@click.option("--yes", is_flag=True, help="Replace an existing hub without asking.")
@click.option("--tokens", is_flag=True, help="Let API tokens that were revoked since count again.")
@click.option("--empty", is_flag=True, help="Without FILE: give up all jobs and start with none.")
def restore(
    file: Path | None, config_dir: Path, as_json: bool, yes: bool, empty: bool, tokens: bool
) -> None:
    """Restore a configuration directory from FILE; what is there now is moved aside."""
    if empty == (file is not None):
        raise click.UsageError("name the FILE of a backup, or add --empty to start without one")
    if file is None:
        _start_empty(working_dir(config_dir), yes)
    else:
        _restore_file(file, config_dir, as_json, yes, tokens)


def _start_empty(config_dir: Path, yes: bool) -> None:
    from swarm_hub.runner import locked
    from swarm_hub.store_care import give_up_database

    with locked(config_dir):
        configuration = with_storage(config_dir)
        if configuration.storage.shared:
            note(f"The database of {config_dir} is on a server; nothing was done")
            return
        is_there = configuration.storage.path(config_dir).exists()
        if is_there and not yes:
            _confirm(f"Give up all jobs of {config_dir}?", f"{config_dir} has jobs")
        aside = give_up_database(configuration, "given up")
    if is_there:
        note(f"The database is kept as {aside}; the next start makes a new one")
    else:
        note(f"{config_dir} has no database; the next start makes one")


def _restore_file(file: Path, config_dir: Path, as_json: bool, yes: bool, tokens: bool) -> None:
    from swarm_hub.runner import locked
    from swarm_hub.storage.backup import restore as restoring
    from swarm_hub.storage.backup.hub_files import holds_hub
    from swarm_hub.storage.backup.sealed import is_sealed
    from swarm_hub.storage.backup.unfinished import finish_restore

    sealed = is_sealed(file)
    secret = _passphrase(confirm=False) if sealed else ""
    if not sealed:
        # What can't be restored is told before anything is made.
        restoring.read_manifest(file)
    restoring.check_place(config_dir, file)
    config_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(config_dir), ExitStack() as plain:
        finish_restore(config_dir)
        if sealed:
            file = plain.enter_context(restoring.unsealed(file, config_dir, secret))
        manifest = restoring.read_manifest(file)
        if holds_hub(config_dir) and not yes:
            _ask(config_dir, manifest)
        with ExitStack() as stack:
            progress = stack.enter_context(_progress_bar())

            def may_return(names: Sequence[str]) -> bool:
                # The bar would be drawn over the question.
                stack.close()
                return tokens or _may_return(names)

            done = restoring.restore(
                file,
                config_dir,
                database=_database(config_dir),
                may_return=may_return,
                progress=progress,
            )
    for each in done.notes:
        note(each)
    if done.replaced is not None:
        note(f"The files that were there are in {done.replaced}")
    for missing in done.manifest.missing:
        note(f"The backup lacks {missing}, which could not be saved when it was made")
    note(f"Restored {done.manifest.hub} as of {done.manifest.time} to {config_dir}")
    if not as_json:
        return
    replaced = None if done.replaced is None else str(done.replaced)
    print_json({"config_dir": str(config_dir), **_described(done.manifest), "replaced": replaced})


def with_storage(config_dir: Path) -> Configuration:
    """Read a configuration of which nothing but the storage section must be right."""
    configuration = read_configuration(config_dir, "hub")
    # A backup of the default database would be the wrong one, and nobody would notice.
    wrong = [each for each in configuration.problems if each.path.startswith("storage")]
    if wrong:
        raise ConfigError(wrong)
    return configuration


def _database(config_dir: Path) -> Path | None:
    """Return where the present configuration has its database; None if it can't be read."""
    try:
        storage = with_storage(config_dir).storage
    except ConfigError:
        return None
    return None if storage.shared else storage.path(config_dir)


def _ask(config_dir: Path, manifest: "BackupManifest") -> None:
    _confirm(
        f"{config_dir} holds a hub. Move its files aside and restore {manifest.hub} "
        f"as of {manifest.time}?",
        f"{config_dir} holds a hub",
    )


def _passphrase(*, confirm: bool) -> str:
    """Return the passphrase of a sealed backup: from the environment, or asked for."""
    from swarm_hub.storage.backup.sealed import PASSPHRASE_MIN_CHARS

    text = os.environ.get(_PASSPHRASE)
    if text is None:
        if not sys.stdin.isatty():
            raise click.UsageError(f"the passphrase can't be asked for; set {_PASSPHRASE}")
        text = str(
            click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
        )
    if confirm and len(text) < PASSPHRASE_MIN_CHARS:
        raise click.UsageError(f"a passphrase has at least {PASSPHRASE_MIN_CHARS} characters")
    return text


def _may_return(names: Sequence[str]) -> bool:
    """Ask whether revoked tokens count again; they don't where nobody can be asked."""
    if not sys.stdin.isatty():
        return False
    listed = ", ".join(names)[:500]
    return click.confirm(f"Let tokens that were revoked since count again ({listed})?", err=True)


def _confirm(question: str, what: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}; add --yes to move its files aside")
    click.confirm(question, abort=True, err=True)


def _described(manifest: "BackupManifest") -> dict[str, Any]:
    return {
        "hub": manifest.hub,
        "time": manifest.time,
        "db_id": manifest.db_id,
        "schema": manifest.schema,
        "files": len(manifest.members),
    }


def _dump(url: str) -> str:
    """Return the command that saves a PostgreSQL database; it asks for the password itself."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    options = [(key, text) for key, text in parse_qsl(parts.query) if key in _HARMLESS_OPTIONS]
    address = f"postgresql://{f'{user}@' if user else ''}{host}{parts.path}"
    if options:
        address += f"?{urlencode(options)}"
    return f"pg_dump --format=custom --file=swarm_hub.dump {shlex.quote(address)}"


@contextmanager
def _progress_bar() -> Iterator["Progress"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    # In a pipe or a log the bar would only leave empty lines.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
