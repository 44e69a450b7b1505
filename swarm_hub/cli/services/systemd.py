"""systemd: a unit of the user, or of the system for a machine whose owner does not log in."""

import getpass
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.cli.services import Delete, Layer, Run, Service, Status, Step, Write, said
from swarm_hub.exceptions import HubError

# sd_booted(3)
BOOTED: Final = Path("/run/systemd/system")
SYSTEM_UNITS: Final = Path("/etc/systemd/system")

_UNIT: Final = """\
# Made by `swarm-hub service install`; what you change here it overwrites, what you put into
# {name}.service.d/*.conf beside it stays.
[Unit]
Description=swarm_hub ({name})
{after}# It is never given up: the network or a disk may come back after hours.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{user}Restart=always
RestartSec=5
# From systemd 254 on the pauses grow; an older one ignores these two.
RestartSteps=6
RestartMaxDelaySec=5min
# A configuration that is refused is refused again.
RestartPreventExitStatus=2
# Longer than the longest bound of the hub's own watchdog, which looks every 15 s.
WatchdogSec=120
# An upgrade of a large database comes before readiness.
TimeoutStartSec=15min
TimeoutStopSec=60
# The hub tells its children to stop; what is left of them then is killed.
KillMode=mixed
# The death of a sandbox's child for want of memory is the failure of a shard, not of the hub.
OOMPolicy=continue

UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
# What no hub calls; the sandbox's children bring a list of their own of what they may call.
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
KeyringMode=private
# Not MemoryDenyWriteExecute: modules are compiled to machine code.
{fence}
[Install]
WantedBy={target}
"""
# The user's manager has no such target; the hub dials until the network is there.
_AFTER_NETWORK: Final = "Wants=network-online.target\nAfter=network-online.target\n"
# A user's manager may not make the mounts that these need, everywhere. No PrivateTmp: the directory
# may be in /tmp. ProtectKernelTunables and ProtectKernelLogs fail in some containers, and guard
# what a process without capabilities can't change either.
_SYSTEM_FENCE: Final = """\
CapabilityBoundingSet=
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelModules=yes
ProtectSystem=full
ReadWritePaths={config_dir}
"""


class Systemd:
    """A unit in the user's manager, or in the system's."""

    def __init__(self, *, system: bool) -> None:
        self._system = system
        self._systemctl = ("systemctl",) if system else ("systemctl", "--user")

    def install(self, service: Service) -> Iterator[Step]:
        """Return what writes the unit and starts it anew."""
        self._check_rights("install", service)
        unit = f"{service.name}.service"
        yield Write(self._path(service.name), self.unit(service))
        yield Run((*self._systemctl, "daemon-reload"))
        yield Run((*self._systemctl, "enable", unit))
        if not self._system:
            yield Run(
                ("loginctl", "enable-linger", getpass.getuser()),
                "the hub runs only while you are logged in; an administrator changes that: "
                f"loginctl enable-linger {getpass.getuser()}",
            )
        # It returns once the hub is ready, and a database to be upgraded may take long.
        yield Run((*self._systemctl, "--no-block", "restart", unit))

    def remove(self, name: str) -> Iterator[Step]:
        """Return what stops the hub and removes the unit."""
        self._check_rights("remove", None)
        unit = f"{name}.service"
        if self._path(name).exists():
            yield Run((*self._systemctl, "disable", "--now", unit))
        yield Delete(self._path(name))
        yield Run((*self._systemctl, "daemon-reload"))

    def status(self, name: str) -> Status:
        """Return what systemd tells of the unit."""
        unit = f"{name}.service"
        wanted = "--property=ActiveState,SubState,UnitFileState,NRestarts,MainPID"
        shown = said((*self._systemctl, "show", unit, wanted))
        told = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        state = f"{told.get('ActiveState', 'unknown')} ({told.get('SubState', 'unknown')})"
        enabled = told.get("UnitFileState", "")
        layers = [
            Layer(
                "unit", self._path(name).is_file(),
                f"{self._path(name)}: {state}, process {told.get('MainPID', '0')}, "
                f"restarts: {told.get('NRestarts', '0')}",
            ),
            Layer("start with the machine", enabled == "enabled", enabled or "not installed"),
        ]  # fmt: skip
        if not self._system:
            layers.append(_linger())
        user = "" if self._system else "--user "
        return Status(
            f"systemd ({'system' if self._system else 'user'})", name,
            installed=self._path(name).is_file(), running=told.get("ActiveState") == "active",
            log=f"journalctl {user}-u {unit}", layers=tuple(layers),
        )  # fmt: skip

    def unit(self, service: Service) -> str:
        """Return the text of the unit."""
        after = user = fence = ""
        if self._system:
            after, user = _AFTER_NETWORK, f"User={_owner(service.config_dir)}\n"
            fence = _SYSTEM_FENCE.format(config_dir=_escaped(str(service.config_dir)))
        return _UNIT.format(
            name=service.name,
            after=after,
            command=" ".join(_escaped(each) for each in service.command),
            user=user,
            fence=fence,
            target="multi-user.target" if self._system else "default.target",
        )

    def _path(self, name: str) -> Path:
        if self._system:
            folder = SYSTEM_UNITS
        else:
            config = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
            folder = Path(config, "systemd", "user")
        return folder / f"{name}.service"

    def _check_rights(self, action: str, service: Service | None) -> None:
        if not self._system or os.geteuid() == 0:
            return
        program, config = "swarm-hub", ""
        if service is not None:
            program, config = " ".join(service.program), f" -c {service.config_dir}"
        raise HubError(
            f"a unit of the system is root's; run: sudo {program} service {action} --system{config}"
        )


def _linger() -> Layer:
    user = getpass.getuser()
    name = "run without a login"
    try:
        shown = said(("loginctl", "show-user", user, "--property=Linger"))
    except HubError as error:
        # It knows nobody who is not logged in and has no lingering.
        return Layer(name, None, str(error))
    if shown.strip() == "Linger=yes":
        return Layer(name, True, f"{user} lingers")
    return Layer(name, False, f"loginctl enable-linger {user}")


def _owner(config_dir: Path) -> str:
    """Return who owns the directory: nobody else may read its keys."""
    uid = config_dir.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _escaped(word: str) -> str:
    """Return a word of a unit file, in which percent and dollar stand for themselves."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    plain = all(each.isalnum() or each in "/._-+:=,@%~" for each in text)
    return text if plain else f'"{text}"'
