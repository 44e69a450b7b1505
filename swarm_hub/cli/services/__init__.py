"""What has a service manager keep a hub running: steps, made by a function and then carried out.

Each manager is a module that says which steps install and remove a hub, and how it is with it. The
steps are values, so that `--dry-run` prints what would be done without a second description of it.
"""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from swarm_hub.exceptions import HubError
from swarm_hub.util.files import write_atomic

# A hub that is stopped or restarted finishes its shards first.
_WITHIN_S: Final = 90.0
# Programs that ask another app hang where that app is not installed.
ASK_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be kept running."""

    name: str
    # The command without its arguments.
    program: tuple[str, ...]
    config_dir: Path

    @property
    def command(self) -> tuple[str, ...]:
        """Return the command that is the hub."""
        return (*self.program, "run", "-c", str(self.config_dir))


@dataclass(frozen=True, slots=True)
class Write:
    """A file, replaced as a whole."""

    path: Path
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Delete:
    """A file or a folder that is there no more afterwards."""

    path: Path


@dataclass(frozen=True, slots=True)
class Run:
    """A command; `otherwise` says what it means that it failed, and "" that the rest is in vain."""

    command: tuple[str, ...]
    otherwise: str = ""
    within_s: float = _WITHIN_S


Step = Write | Delete | Run


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the things that start a hub; `present` is None where that can't be known."""

    name: str
    present: bool | None
    # What is missing, or what it is.
    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """How it is with a service."""

    manager: str
    name: str
    installed: bool
    running: bool
    # The command that shows what the hub logs.
    log: str
    layers: tuple[Layer, ...] = field(default=())


class Manager(Protocol):
    """Something that starts a hub with the device and again when it ended."""

    def install(self, service: Service) -> Iterable[Step]:
        """Return what makes it keep the hub running, also over what an older version made."""

    def remove(self, name: str) -> Iterable[Step]:
        """Return what stops the hub and forgets it; no configuration is touched."""

    def status(self, name: str) -> Status:
        """Return how it is now."""


def described(step: Step) -> str:
    """Return a step as the shell command that does the same."""
    match step:
        case Write(path, text, mode):
            marks = "SWARM_HUB_END"
            head = f"mkdir -p {_quoted(path.parent)}\ncat > {_quoted(path)} <<'{marks}'\n"
            tail = f"chmod {mode:o} {_quoted(path)}"
            return f"{head}{text}{marks}\n{tail}"
        case Delete(path):
            return f"rm -rf {_quoted(path)}"
        case Run(command):
            return shlex.join(command)


def carry_out(steps: Iterable[Step]) -> list[str]:
    """Do the steps in order; returns what did not work but may be done without."""
    missed = []
    for step in steps:
        match step:
            case Write(path, text, mode):
                _write(path, text, mode)
            case Delete(path):
                _delete(path)
            case Run(command, otherwise, within_s):
                try:
                    said(command, within_s)
                except HubError as error:
                    if not otherwise:
                        raise
                    missed.append(f"{otherwise} ({error})")
    return missed


def said(command: tuple[str, ...], within_s: float = ASK_WITHIN_S) -> str:
    """Run a command and return its output; raises HubError with what it said if it failed."""
    text = shlex.join(command)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=within_s,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise HubError(f"{text}: no answer within {within_s:.0f} s") from None
    except OSError as error:
        raise HubError(f"{text}: {error.strerror}") from error
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise HubError(f"{text}: exit code {done.returncode}: {told}")
    return done.stdout


def _write(path: Path, text: str, mode: int) -> None:
    try:
        write_atomic(path, text.encode(), mode=mode)
        # Whatever the umask: a manager that may not read it would not start it.
        path.chmod(mode)
    except OSError as error:
        raise HubError(f"{path}: can't be written: {error.strerror}") from error


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    except OSError as error:
        raise HubError(f"{path}: can't be removed: {error.strerror}") from error


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
