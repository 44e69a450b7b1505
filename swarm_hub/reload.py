"""Taking a new configuration without a restart: all of it, as far as that can be, or nothing.

The files are read and validated as `check` does it. What their keys come to is compared with what
is in force; keys that need a restart stay as they are and are told. Then every component prepares,
and only when all have done so each applies, in one turn of the loop (ADR 095).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from swarm_hub.config import (
    CORE_SCHEMAS,
    CORE_SECTIONS,
    Configuration,
    hub_schema,
    problem_at,
    validate_section,
)
from swarm_hub.core import Hub
from swarm_hub.exceptions import ConfigError, ConfigProblem, HubError
from swarm_hub.helpers.effective import (
    Value,
    redacted,
    secret_values_of,
    without_restart,
)
from swarm_hub.helpers.platforms import PlatformSchema
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.reload import KeyChange, KeyValue, Reload
from swarm_hub.plan import Plan
from swarm_hub.util.bounds import shown
from swarm_hub.util.yaml_loader import YamlMap

_LOGGER = logging.getLogger(__name__)

# Of an event; a log line names as many.
_TOLD_MAX: Final = 20
_CHARS_MAX: Final = 300
_PREPARE_WITHIN_S: Final = 8.0

_Schema = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class _Change:
    domain: str
    path: tuple[str, ...]
    old: Value | None
    new: Value | None

    @property
    def reloadable(self) -> bool:
        return all(each.reloadable for each in (self.old, self.new) if each is not None)


class Live:
    """The configuration that a hub runs by, and how it takes another."""

    def __init__(
        self,
        hub: Hub,
        configuration: Configuration,
        planned: Plan,
        read: Callable[[], tuple[Configuration, Plan]],
    ) -> None:
        self._hub = hub
        self._running = configuration
        # Of the components that were there at the start; others need a restart.
        self._schemas = _schemas(configuration, planned)
        self._read = read
        self._reloading = asyncio.Lock()

    def values(self) -> list[KeyValue]:
        """Return every value that is in force; secrets are left out."""
        secrets = self._running.secrets
        return [
            _plain(redacted(value, secrets), reloads=domain in self._hub.reloaders)
            for domain, schema in self._schemas.items()
            for value in secret_values_of(domain, self._running.sections.get(domain), schema)
            if value.path != ("hub", "packages")
        ]

    async def reload(self, by: str) -> Reload:
        """Put in force what the files say now; raises ConfigError with every problem.

        Whoever asks while another reload goes on gets one of their own after it: the files may have
        changed since that one read them.
        """
        async with self._reloading:
            try:
                done = await self._reload()
            except ConfigError as error:
                self._tell_refusal(by, error.problems)
                raise
            self._tell(by, done)
            return done

    async def _reload(self) -> Reload:
        # In a thread: reading takes 0.1 s on a phone, and the owner's code may be imported.
        new, planned = await asyncio.to_thread(self._read)
        schemas = {**self._schemas, **_schemas(new, planned)}
        changes = [*self._changed(new, schemas)]
        taking = self._taking(changes)
        going = self._without_restart(new, schemas, taking)
        problems: list[ConfigProblem] = []
        if taking:
            await self._prepare(new, going, schemas, problems)
        if problems:
            raise ConfigError(sorted(problems, key=lambda each: (each.file, each.line or 0)))
        # From here to the end nothing waits: there is no moment at which a part is in force.
        failed = self._apply() if taking else set()
        secrets = self._running.secrets | new.secrets
        self._running = replace(new, hub=self._running.hub, sections=going, secrets=secrets)
        done = [each for each in changes if each.reloadable and each.domain in taking - failed]
        waiting = [each for each in changes if each not in done]
        self._hub.needs_restart = tuple(" → ".join(each.path) for each in waiting)
        return {
            "applied": [_told(each, secrets) for each in done],
            "needs_restart": [_told(each, secrets) for each in waiting],
        }

    def _section(self, domain: str) -> Any:
        return self._running.sections.get(domain)

    def _changed(self, new: Configuration, schemas: Mapping[str, _Schema]) -> Iterator[_Change]:
        """Yield the keys whose values differ, and the components that come or go."""
        for domain in dict.fromkeys((*self._running.sections, *new.sections, *schemas)):
            if domain not in self._schemas or domain not in schemas:
                if self._section(domain) != new.sections.get(domain):
                    yield _Change(domain, (domain,), *self._whole(domain, new))
                continue
            before = self._values(domain, self._section(domain), self._schemas[domain])
            after = self._values(domain, new.sections.get(domain), schemas[domain])
            for path in dict.fromkeys((*before, *after)):
                one, other = before.get(path), after.get(path)
                if one is None or other is None or one.value != other.value:
                    yield _Change(domain, path, one, other)

    def _whole(self, domain: str, new: Configuration) -> tuple[Value | None, Value | None]:
        def of(sections: YamlMap) -> Value | None:
            if domain not in sections:
                return None
            # What is in it is told once it runs, or was told while it did.
            said = "off" if sections[domain] is False else "configured"
            return Value((domain,), said, said, sections.places[domain])

        return of(self._running.sections), of(new.sections)

    def _values(self, domain: str, section: Any, schema: _Schema) -> dict[tuple[str, ...], Value]:
        return {
            each.path: each
            for each in secret_values_of(domain, section, schema)
            if each.path != ("hub", "packages")
        }

    def _taking(self, changes: list[_Change]) -> set[str]:
        """Return the sections of which something new comes into force."""
        held = {each.domain for each in changes if not each.reloadable}
        # A platform is made whole, so that all of its keys are in force or none.
        whole = {
            domain for domain, schema in self._schemas.items() if isinstance(schema, PlatformSchema)
        }
        able = {domain for domain, _ in self._reloaders()} - (held & whole)
        return {each.domain for each in changes if each.reloadable} & able

    def _without_restart(
        self, new: Configuration, schemas: Mapping[str, _Schema], taking: set[str]
    ) -> YamlMap:
        """Return the sections as they are in force after this."""
        going = YamlMap()
        for domain in dict.fromkeys((*self._running.sections, *new.sections)):
            old, place = self._section(domain), self._running.sections.places.get(domain)
            if domain in taking:
                now = new.sections.get(domain)
                if isinstance(now, list) or isinstance(old, list):
                    old = now
                else:
                    old = without_restart(_as_map(now), _as_map(old), schemas[domain])
                place = new.sections.places.get(domain, place)
            if place is not None and (domain in self._running.sections or domain in taking):
                going.put(domain, old, place)
        return going

    async def _prepare(
        self,
        new: Configuration,
        going: YamlMap,
        schemas: Mapping[str, _Schema],
        problems: list[ConfigProblem],
    ) -> None:
        """Have every component prepare; each that can't is a problem at its section."""
        for domain, reloader in self._reloaders():
            try:
                config = validate_section(going, domain, schemas[domain])
                async with asyncio.timeout(_PREPARE_WITHIN_S):
                    await reloader.prepare(config)
            except ConfigError as error:
                # Valid as written, but not beside keys that wait for a restart.
                problems += [
                    replace(each, message=f"{each.message} (beside what needs a restart)")
                    for each in error.problems
                ]
            except HubError as error:
                problems.append(problem_at(new.sections, [domain], str(error)))
            except TimeoutError:
                said = f"could not be prepared within {_PREPARE_WITHIN_S:g} s"
                problems.append(problem_at(new.sections, [domain], said))
            except Exception as error:
                # Of a component of the owner's, which must not end the hub.
                _LOGGER.exception("Preparing the reload of %s failed", domain)
                said = f"can't be prepared: {error!r}"
                problems.append(problem_at(new.sections, [domain], said))

    def _apply(self) -> set[str]:
        """Put in force what was prepared; returns the components that failed, against the rules."""
        failed = set()
        for domain, reloader in self._reloaders():
            try:
                reloader.apply()
            except Exception:
                _LOGGER.exception("Reloading %s failed; restart the hub", domain)
                failed.add(domain)
        return failed

    def _reloaders(self) -> Iterator[tuple[str, Any]]:
        # One may have failed after it registered.
        running = self._hub.components.union(CORE_SECTIONS)
        for domain, reloader in self._hub.reloaders.items():
            if domain in self._schemas and domain in running:
                yield domain, reloader

    def _tell(self, by: str, done: Reload) -> None:
        applied, waiting = done["applied"], done["needs_restart"]
        _LOGGER.info(
            "The configuration was reloaded by %s: %s", shown(by),
            ", ".join(map(_line, applied[:_TOLD_MAX])) or "nothing to apply",
        )  # fmt: skip
        if waiting:
            names = ", ".join(each["path"] for each in waiting[:_TOLD_MAX])
            _LOGGER.warning("These keys need a restart: %s", names)
        self._keep(
            EventType.CONFIGURATION_RELOADED,
            {
                "by": by,
                "applied": [each["path"] for each in applied[:_TOLD_MAX]],
                "needs_restart": [each["path"] for each in waiting[:_TOLD_MAX]],
            },
        )

    def _tell_refusal(self, by: str, problems: list[ConfigProblem]) -> None:
        _LOGGER.error("%s wanted a reload; nothing was changed:", shown(by))
        for each in problems[:_TOLD_MAX]:
            _LOGGER.error("%s", each)
        told = [str(each)[:_CHARS_MAX] for each in problems[:_TOLD_MAX]]
        self._keep(EventType.CONFIGURATION_REFUSED, {"by": by, "problems": told})

    def _keep(self, kind: EventType, content: dict[str, Any]) -> None:
        # Beside the answer: a full disk delays the event, and no reload that may be about it.
        async def keep() -> None:
            await self._hub.store.commit([], [NewEvent(kind, content)])

        self._hub.tasks.spawn(keep(), kind.value)


def _schemas(configuration: Configuration, planned: Plan) -> dict[str, _Schema]:
    core: dict[str, _Schema] = {"hub": hub_schema(configuration.hub.name), **CORE_SCHEMAS}
    return core | {each.manifest.domain: each.schema for each in planned.components}


def _as_map(section: Any) -> YamlMap:
    return section if isinstance(section, YamlMap) else YamlMap()


def _plain(value: Value, *, reloads: bool) -> KeyValue:
    place = value.place
    return {
        "path": " → ".join(value.path),
        "value": value.value,
        "written": value.written,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
        "tag": None if place is None else place.tag or None,
        "reloadable": value.reloadable and reloads,
    }


def _told(change: _Change, secrets: frozenset[str]) -> KeyChange:
    old = None if change.old is None else redacted(change.old, secrets)
    new = None if change.new is None else redacted(change.new, secrets)
    place = None if new is None else new.place
    return {
        "path": " → ".join(change.path),
        "old": None if old is None else old.value,
        "new": None if new is None else new.value,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
    }


def _line(change: KeyChange) -> str:
    return f"{change['path']}: {shown(change['old'])} -> {shown(change['new'])}"
