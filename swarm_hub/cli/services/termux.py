"""Termux: runit by termux-services, and two layers that start it: Termux:Boot and Android's jobs.

From the documents and scripts of these packages; nothing of it was tried on a device.
"""

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.cli.services import (
    ASK_WITHIN_S,
    Delete,
    Layer,
    Run,
    Service,
    Status,
    Step,
    Write,
    said,
)
from swarm_hub.exceptions import HubError

# What Android ended is started again within this; it takes no shorter period.
PERIOD_MS: Final = 900_000
# The gateway's port, which nobody else takes for a number of a job either.
_JOB_ID: Final = 8470
# Ten files of 100 kB, and the one that is written.
_LOG: Final = "s100000\nn10\n"
# A hub finishes its shards first; sv waits 7 s by itself.
_SV: Final = ("sv", "-w", "60")
_SCHEDULER: Final = "termux-job-scheduler"


class Termux:
    """runit's folder of the hub, a boot script, and a job that runs the same script."""

    def __init__(self) -> None:
        prefix = Path(os.environ.get("PREFIX", "/data/data/com.termux/files/usr"))
        self._prefix = prefix
        self._services = prefix / "var" / "service"
        self._logs = prefix / "var" / "log" / "sv"
        self._boot = Path("~/.termux/boot").expanduser()

    def install(self, service: Service) -> Iterator[Step]:
        """Return what has runit run the hub, now, after a boot and after Android ended all."""
        if shutil.which("sv") is None:
            raise HubError(
                "runit is missing; run: pkg install termux-services, then this command again"
            )
        folder, log = self._services / service.name, self._logs / service.name
        boot = self._boot / service.name
        known = (folder / "run").is_file()
        shell = f"#!{self._prefix}/bin/sh\n"
        yield Write(log / "config", _LOG)
        # runsv looks for a log when it starts, and again and again for what to run.
        yield Write(folder / "log" / "run", f"{shell}exec svlogd {shlex.quote(str(log))}\n", 0o755)
        yield Write(
            folder / "run", f"{shell}exec 2>&1\nexec {shlex.join(service.command)}\n", 0o755
        )
        yield Delete(folder / "down")
        # To start what runs already does nothing, so this is right at any time.
        yield Write(
            boot,
            f"{shell}export PREFIX={self._prefix}\n. $PREFIX/etc/profile.d/start-services.sh\n",
            0o755,
        )
        yield Run((str(boot),))
        if known:
            yield Run(
                (*_SV, "restart", str(folder)),
                "the hub that ran before was not restarted; runit starts it within 5 s if it does "
                "not run",
            )
        if shutil.which(_SCHEDULER) is not None:
            # The hub decides by itself whether it works, so it runs on any network and charge.
            options = {
                "--job-id": str(_JOB_ID), "--period-ms": str(PERIOD_MS), "--persisted": "true",
                "--network": "none", "--battery-not-low": "false",
            }  # fmt: skip
            words = (word for option in options.items() for word in option)
            yield Run(
                (_SCHEDULER, "--script", str(boot), *words),
                "Android's job scheduler will not start the hub again; install the app "
                "Termux:API from where Termux is from, then run this again",
                ASK_WITHIN_S,
            )

    def remove(self, name: str) -> Iterator[Step]:
        """Return what stops the hub and forgets it; its log stays."""
        folder, boot = self._services / name, self._boot / name
        if shutil.which(_SCHEDULER) is not None and boot.exists():
            yield Run(
                (_SCHEDULER, "--cancel", "--job-id", str(_JOB_ID)),
                "Android's job may still be there, and finds nothing to start",
                ASK_WITHIN_S,
            )
        yield Delete(boot)
        if folder.exists():
            yield Run((*_SV, "stop", str(folder)), "runit did not run it")
        yield Delete(folder)

    def status(self, name: str) -> Status:
        """Return which of the layers are there, and whether runit runs the hub."""
        folder, boot = self._services / name, self._boot / name
        log = self._logs / name / "current"
        installed, state = (folder / "run").is_file(), "not installed"
        if installed:
            try:
                state = said(("sv", "status", str(folder))).strip()
            except HubError as error:
                state = str(error)
        layers = (
            Layer("termux-services", installed, state),
            Layer(
                "Termux:Boot", boot.is_file(),
                f"{boot}; the app must be installed, and opened once" if boot.is_file()
                else f"there is no {boot}",
            ),
            _job(boot),
        )  # fmt: skip
        return Status(
            "termux", name, installed=installed, running=state.startswith("run:"),
            log=f"tail -F {log}", layers=layers,
        )  # fmt: skip


def _job(boot: Path) -> Layer:
    name = "job scheduler"
    if shutil.which(_SCHEDULER) is None:
        return Layer(name, False, "pkg install termux-api, and the app Termux:API")
    try:
        pending = said((_SCHEDULER, "--pending"))
    except HubError as error:
        return Layer(name, None, str(error))
    if str(boot) in pending or str(_JOB_ID) in pending:
        return Layer(name, True, "Android starts runit again within 15 min")
    return Layer(name, False, "swarm-hub service install")
