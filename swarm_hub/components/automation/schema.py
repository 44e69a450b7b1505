"""The list below `automation:` as it is written: automations, and `allow:` entries beside them."""

import re
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any, Final, TypeVar

import voluptuous as vol

from swarm_hub.components.automation.actions import action
from swarm_hub.components.automation.cron import DAYS, parse_cron
from swarm_hub.components.automation.hosts import host_entry
from swarm_hub.components.automation.measured import VALUES
from swarm_hub.components.automation.model import (
    AbsenceTrigger,
    Allowed,
    Automation,
    AutomationConfig,
    Condition,
    EventFilter,
    EventTrigger,
    Threshold,
    ThresholdTrigger,
    TimeTrigger,
    TimeWindow,
    Trigger,
)
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.event import EventType
from swarm_hub.util.bounds import LIST_MAX, shown

_T = TypeVar("_T")

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z", re.ASCII)
_ARGUMENTS_MAX: Final = 64
_CLOCK: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\Z", re.ASCII)
_EVENTS: Final = tuple(EventType)
_ZONE: Final = cv.Key("time_zone", default=None, reloadable=True)


def _key(name: str, default: Any = vol.UNDEFINED, field: str | None = None) -> cv.Key:
    return cv.Key(name, default=default, reloadable=True, field=field)


def _each(validate: Callable[[Any], _T], value: Any) -> tuple[_T, ...]:
    """Validate every entry of a list; tells the problems of all."""
    if not isinstance(value, list):
        raise vol.Invalid(f"expected a list, got {shown(value)}")
    if len(value) > LIST_MAX:
        raise vol.Invalid(f"expected at most {LIST_MAX} entries, got {len(value)}")
    found, problems = [], []
    for number, entry in enumerate(value):
        try:
            found.append(validate(entry))
        except vol.Invalid as error:
            error.prepend([number])
            problems += error.errors if isinstance(error, vol.MultipleInvalid) else [error]
    if problems:
        raise vol.MultipleInvalid(problems)
    return tuple(found)


def _one_or_list(validate: Callable[[Any], _T]) -> Callable[[Any], tuple[_T, ...]]:
    def check(value: Any) -> tuple[_T, ...]:
        return _each(validate, value) if isinstance(value, list) else (validate(value),)

    return check


def _by_key(kinds: Mapping[str, Callable[[Any], _T]], what: str) -> Callable[[Any], _T]:
    """Return a validator of mappings whose kind is the key of theirs that is among `kinds`."""

    def check(value: Any) -> _T:
        if not isinstance(value, dict):
            raise vol.Invalid(f"expected a {what} such as `{next(iter(kinds))}: …`")
        found = [name for name in value if name in kinds]
        if len(found) != 1:
            hint = next((cv.did_you_mean(name, tuple(kinds)) for name in value), "")
            raise vol.Invalid(f"expected one of {', '.join(kinds)}{'' if found else hint}")
        return kinds[found[0]](value)

    return check


def _zone(value: Any) -> tzinfo | None:
    if value is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, TypeError, OSError):
        raise vol.Invalid(f"there is no time zone {shown(value)}; such as Europe/Berlin") from None


def _where(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > 32:
        raise vol.Invalid("expected at most 32 names of the event's data, each with a value")
    for name, given in value.items():
        if not isinstance(given, str | int | float | bool | None):
            raise vol.Invalid(f"expected a text or a number, got {shown(given)}", path=[name])
    return dict(value)


_FILTER: Final = {_key("labels", dict): cv.labels, _key("where", dict): _where}


def _event(**keys: Any) -> Trigger:
    return EventTrigger(EventFilter(keys["event"], keys["labels"], keys["where"]))


def _absence(**keys: Any) -> Trigger:
    if "for_s" not in keys:
        raise vol.Invalid("`for` is required: how long there was no such event")
    wanted = EventFilter(keys["absence"], keys["labels"], keys["where"])
    return AbsenceTrigger(wanted, keys["for_s"])


def _cron(value: Any) -> Any:
    try:
        return parse_cron(value if isinstance(value, str) else "")
    except ValueError as error:
        raise vol.Invalid(str(error)) from None


def _time_pattern(value: Any) -> Any:
    """Validate `{hours, minutes}` as Home Assistant has them: a number, `*` or `/5`."""
    if not isinstance(value, dict) or not value or not set(value) <= {"hours", "minutes"}:
        raise vol.Invalid('expected hours and minutes such as {minutes: "/15"}')
    fields = {}
    for name, given in value.items():
        text = str(given)
        fields[name] = f"*{text}" if text.startswith("/") else text
    hours = fields.get("hours", "*")
    return _cron(f"{fields.get('minutes', '0')} {hours} * * *")


def _threshold(**keys: Any) -> Trigger:
    for_s = keys.pop("for_s")
    return ThresholdTrigger(_limits(**keys), for_s)


def _limits(threshold: str, above: Any = None, below: Any = None) -> Threshold:
    if above is None and below is None:
        raise vol.Invalid("expected above, below or both")
    return Threshold(threshold, above, below)


def _measured(value: Any) -> float:
    return float(cv.size(value)) if isinstance(value, str) else cv.number(0, 2.0**60)(value)


_LIMITS: Final = {
    _key("threshold"): cv.one_of(*VALUES),
    _key("above", None): cv.optional(_measured),
    _key("below", None): cv.optional(_measured),
}
_trigger: Final = _by_key(
    {
        "event": cv.section({_key("event"): cv.one_of(*_EVENTS), **_FILTER}, _event),
        "absence": cv.section(
            {
                _key("absence"): cv.one_of(*_EVENTS),
                _key("for", field="for_s"): cv.positive_duration,
                **_FILTER,
            },
            _absence,
        ),
        "cron": cv.section(
            {_key("cron"): _cron, _ZONE: _zone},
            lambda cron, time_zone: TimeTrigger(cron, time_zone),
        ),
        "time_pattern": cv.section(
            {_key("time_pattern"): _time_pattern, _ZONE: _zone},
            lambda time_pattern, time_zone: TimeTrigger(time_pattern, time_zone),
        ),
        "threshold": cv.section(
            {**_LIMITS, _key("for", 0, field="for_s"): cv.duration}, _threshold
        ),
    },
    "trigger",
)


def _minute(value: Any) -> int:
    match = _CLOCK.match(value) if isinstance(value, str) else None
    if match is None:
        raise vol.Invalid(f'expected a time in quotes such as "22:00", got {shown(value)}')
    return int(match[1]) * 60 + int(match[2])


def _weekdays(value: Any) -> frozenset[int]:
    return frozenset(DAYS.index(day) for day in _one_or_list(cv.one_of(*DAYS))(value))


def _window(after: Any, before: Any, weekdays: frozenset[int], time_zone: Any) -> Condition:
    if after is not None and after == before:
        raise vol.Invalid("after and before are the same time")
    return TimeWindow(after, before, weekdays, time_zone)


_window_schema: Final = cv.section(
    {
        _key("after", None): cv.optional(_minute),
        _key("before", None): cv.optional(_minute),
        _key("weekdays", list(DAYS)): _weekdays,
        _ZONE: _zone,
    },
    _window,
)
_limits_schema: Final[Callable[[Any], Condition]] = cv.section(_LIMITS, _limits)


def _condition(value: Any) -> Condition:
    if isinstance(value, dict) and "threshold" in value:
        return _limits_schema(value)
    if not isinstance(value, dict) or not value:
        raise vol.Invalid("expected a threshold, or after, before and weekdays")
    return _window_schema(value)


def _commands(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict) or len(value) > LIST_MAX:
        raise vol.Invalid("expected names, each with a program and its arguments")
    found: dict[str, tuple[str, ...]] = {}
    for name, words in value.items():
        if (
            not isinstance(words, list)
            or not 0 < len(words) <= _ARGUMENTS_MAX
            or not all(isinstance(word, str) and word and "\0" not in word for word in words)
        ):
            raise vol.Invalid(
                f"expected [PROGRAM, ARGUMENT…], each a text, got {shown(words)}", path=[name]
            )
        if not words[0].startswith("/"):
            raise vol.Invalid(
                f"expected the program's whole path, got {shown(words[0])}", path=[name]
            )
        found[str(name)] = tuple(words)
    return found


_allow: Final = cv.section(
    {
        _key("commands", dict): _commands,
        _key("hosts", list): lambda value: _each(host_entry, value),
    },
    Allowed,
)


def _automation(value: Any, allowed: Allowed) -> Automation:
    """Validate one automation."""

    def into(**keys: Any) -> Automation:
        problems = [
            vol.Invalid("this key is required", path=[name])
            for name in ("alias", "trigger", "action")
            if name not in keys
        ]
        if problems:
            raise vol.MultipleInvalid(problems)
        given = keys["id"]
        return Automation(
            given or _slug(keys["alias"]), keys["alias"], keys["trigger"], keys["condition"],
            keys["action"], keys["max_per_hour"], keys["max_depth"],
        )  # fmt: skip

    return cv.section(
        {
            _key("alias"): cv.text(100, 1),
            _key("id", None): cv.optional(_id),
            _key("trigger"): _one_or_list(_trigger),
            _key("condition", list): _one_or_list(_condition),
            _key("action"): _one_or_list(lambda each: action(each, allowed)),
            _key("max_per_hour", 60): cv.integer(1, 10_000),
            _key("max_depth", 10): cv.integer(1, 100),
        },
        into,
    )(value)


def _id(value: Any) -> str:
    if isinstance(value, str) and _ID.match(value):
        return value
    raise vol.Invalid(
        f"expected at most 64 of a-z, 0-9, _ and -, such as reduce_maps, got {shown(value)}"
    )


def _slug(alias: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", alias.lower()).strip("_")[:64].strip("_")
    return slug or "automation"


def _entries(value: Any) -> AutomationConfig:
    """Validate the list; what is allowed is known before any automation is judged."""
    allowed = Allowed({}, ())
    problems: list[vol.Invalid] = []
    for number, entry in enumerate(value):
        if not _is_allow(entry):
            continue
        try:
            more = _allow(entry["allow"])
        except vol.Invalid as error:
            error.prepend([number, "allow"])
            problems += error.errors if isinstance(error, vol.MultipleInvalid) else [error]
            continue
        allowed = Allowed({**allowed.commands, **more.commands}, (*allowed.hosts, *more.hosts))
    found: dict[str, Automation] = {}
    for number, entry in enumerate(value):
        if _is_allow(entry):
            continue
        try:
            each = _automation(entry, allowed)
            if each.id in found:
                raise vol.Invalid(
                    f"there is another automation {each.id}; give one of them an id of its own"
                )
            found[each.id] = each
        except vol.Invalid as error:
            error.prepend([number])
            problems += error.errors if isinstance(error, vol.MultipleInvalid) else [error]
    if problems:
        raise vol.MultipleInvalid(problems)
    return AutomationConfig(tuple(found.values()), allowed)


def _is_allow(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) == {"allow"}


def automations(value: Any) -> AutomationConfig:
    """Validate the section `automation:`."""
    if value is None:
        value = []
    if not isinstance(value, list):
        raise vol.Invalid("expected a list: each automation begins with `- alias: …`")
    if len(value) > LIST_MAX:
        raise vol.Invalid(f"expected at most {LIST_MAX} entries, got {len(value)}")
    return _entries(value)
