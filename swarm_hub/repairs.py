"""Repairs: what a person should do about a hub, for as long as there is a cause.

Nothing here is told of a cause or of its end: each part of the hub says at any look what is wrong
now, so that a repair goes by itself with its cause. Looking is cheap, and happens when somebody
asks, or on the common tick. Most hubs are well, so the parts of a hub import this when they are
asked, not when they are set up.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypedDict

from swarm_hub.exceptions import Conflict, NotFound
from swarm_hub.models.event import EphemeralEvent
from swarm_hub.util.clock import Clock, isoformat
from swarm_hub.util.files import write_atomic

_LOGGER = logging.getLogger(__name__)

RAISED: Final = "repair_raised"
GONE: Final = "repair_gone"
# From the least on.
SEVERITIES: Final = ("notice", "warning", "error")
# A hub with more faults than this is not mended by reading on.
_MOST: Final = 256
_IGNORED_MOST: Final = 1024


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing to do.

    `id` stays the same for the same cause, `ignored` says what happens if nobody does anything,
    `fix` what to do and `command` what to type, if that is all. `button` is the text of one that
    calls `mend`. `since` is when it began, in seconds since the epoch, None for when it was first
    seen. With `stuck` the hub can't be said to work.
    """

    id: str
    severity: str
    title: str
    ignored: str
    fix: str
    command: str | None = None
    button: str | None = None
    mend: Callable[[], Awaitable[None]] | None = None
    since: float | None = None
    stuck: bool = False


class RepairShape(TypedDict):
    """A repair as clients see it; `button` is null if nothing can be done from here."""

    id: str
    severity: str
    title: str
    if_ignored: str
    fix: str
    command: str | None
    button: str | None
    since: str
    ignored: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """A repair that stands, since when, and whether somebody chose not to see it."""

    repair: Repair
    since: float
    ignored: bool

    def shape(self) -> RepairShape:
        """Return it as clients see it."""
        repair = self.repair
        return {
            "id": repair.id,
            "severity": repair.severity,
            "title": repair.title,
            "if_ignored": repair.ignored,
            "fix": repair.fix,
            "command": repair.command,
            "button": repair.button,
            "since": isoformat(self.since),
            "ignored": self.ignored,
        }


Source = Callable[[], Iterable[Repair]]


class Repairs:
    """The repairs of one hub; `stuck` asks its parts for signs of life."""

    def __init__(
        self,
        sources: list[Source],
        stuck: Callable[[], Awaitable[Mapping[str, float]]],
        clock: Clock,
        fire: Callable[[object], None],
        file: Path,
    ) -> None:
        self._sources = sources
        self._stuck = stuck
        self._clock = clock
        self._fire = fire
        self._file = file
        self._standing: dict[str, Standing] = {}
        # The severity at which each was ignored.
        self._ignored: dict[str, str] = _read(file)
        self._failing: set[Source] = set()

    async def look(self) -> list[Standing]:
        """Return what stands now, the worst first, and fire an event for each change."""
        stuck = await self._stuck()
        found = {each.id: each for each in islice(self._all(stuck), _MOST)}
        now, before = self._clock.time(), self._standing
        self._standing = {
            each.id: Standing(each, self._since(each, now), self._is_ignored(each))
            for each in found.values()
        }
        for each in self._standing.values():
            known = before.get(each.repair.id)
            if not each.ignored and (known is None or known.ignored):
                self._fire(EphemeralEvent(RAISED, dict(each.shape())))
        for repair_id in before.keys() - self._standing.keys():
            self._fire(EphemeralEvent(GONE, {"id": repair_id}))
        return sorted(
            self._standing.values(),
            key=lambda each: (-SEVERITIES.index(each.repair.severity), each.since, each.repair.id),
        )

    async def problems(self) -> list[str]:
        """Return in words what the hub's health is concerned with: no notices."""
        return [
            each.repair.title
            for each in await self.look()
            if not each.ignored and each.repair.severity != "notice"
        ]

    async def fix(self, repair_id: str) -> bool:
        """Do what the button of a repair does; returns whether the repair is gone.

        Raises NotFound, Conflict for one without a button, and what the fix itself raises.
        """
        repair = (await self._one(repair_id)).repair
        if repair.mend is None:
            raise Conflict("no_button", f"{repair_id}: this hub can't do that itself: {repair.fix}")
        await repair.mend()
        return all(each.repair.id != repair_id for each in await self.look())

    async def ignore(self, repair_id: str, ignored: bool) -> Standing:
        """Hide a repair until it gets worse, or show it again; raises NotFound."""
        standing = await self._one(repair_id)
        self._ignored.pop(repair_id, None)
        if ignored:
            self._ignored[repair_id] = standing.repair.severity
            if len(self._ignored) > _IGNORED_MOST:
                del self._ignored[next(iter(self._ignored))]
        content = json.dumps(self._ignored).encode()
        await asyncio.to_thread(write_atomic, self._file, content)
        return await self._one(repair_id)

    async def _one(self, repair_id: str) -> Standing:
        for each in await self.look():
            if each.repair.id == repair_id:
                return each
        raise NotFound("unknown_repair", f"there is no repair {repair_id}; its cause may be gone")

    def _since(self, repair: Repair, now: float) -> float:
        known = self._standing.get(repair.id)
        return repair.since or (now if known is None else known.since)

    def _is_ignored(self, repair: Repair) -> bool:
        at = self._ignored.get(repair.id)
        return at is not None and SEVERITIES.index(repair.severity) <= SEVERITIES.index(at)

    def _all(self, stuck: Mapping[str, float]) -> Iterable[Repair]:
        for name, waited_s in stuck.items():
            yield Repair(
                f"stuck.{slug(name)}",
                "error",
                f"{name} has given no sign for {waited_s:.0f} s",
                "What depends on it waits, and the hub counts as not ready.",
                "Look at the log for what it waits for; restart the hub if it does not go on.",
                stuck=True,
            )
        for source in self._sources:
            try:
                yield from source()
            except Exception:
                # Of a component that is at fault itself; the others are asked all the same.
                if source not in self._failing:
                    self._failing.add(source)
                    _LOGGER.exception("What is to be repaired can't be told by %s", source)


def slug(name: str) -> str:
    """Return a name as a part of an id."""
    return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in name).split())


def of_clock(clock: Clock) -> Iterable[Repair]:
    """Yield what is wrong with the clock of this device."""
    if (problem := clock.problem()) is not None:
        yield Repair(
            "clock",
            "warning",
            problem,
            "Old jobs stay longer than they should; others refuse what has a wrong time.",
            "Set the clock, and have it set by the network from now on.",
            "timedatectl set-ntp true",
        )


def of_tasks(failing: Mapping[str, tuple[int, str]]) -> Iterable[Repair]:
    """Yield the background tasks that fail again and again, with how often and the last error."""
    for name, (times, error) in failing.items():
        yield Repair(
            f"task.{slug(name)}",
            "warning",
            f"the task {name!r} failed {times} times in a row: {error}"[:500],
            "It is tried again every half minute, and its work is not done meanwhile.",
            "Look at the log for where it fails.",
        )


def _read(file: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(file.read_bytes())
        return {str(name): at for name, at in found.items() if at in SEVERITIES}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        _LOGGER.warning("%s can't be read, and nothing is ignored: %s", file, error)
        return {}
