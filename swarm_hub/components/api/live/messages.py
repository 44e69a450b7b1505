"""The protocol's own messages: what a client may say, checked, and how it is answered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import voluptuous as vol

from swarm_hub.endpoints import EventFilter
from swarm_hub.util.bounds import INT64_MAX, is_int, is_text, shown

# Which of Home Assistant's versions a client is to think it talks to: the first with
# `supported_features`, of which its own library asks.
SPEAKS_AS: Final = "2022.9.0"
BATCH_MAX: Final = 100
_TYPES_MAX: Final = 64
_LABELS_MAX: Final = 16
_FEATURES_MAX: Final = 64
_ID_MAX_CHARS: Final = 200
_LABEL_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `subscribe_events` asks for."""

    events: EventFilter
    since: int | None


def since(value: Any) -> int:
    """Validate the `seq` after which events are wanted."""
    if not is_int(value, 0, INT64_MAX):
        raise vol.Invalid("expected the seq of an event")
    return int(value)


def _id(value: Any) -> str:
    if not is_text(value, _ID_MAX_CHARS, 1):
        raise vol.Invalid(f"expected an id of at most {_ID_MAX_CHARS} characters")
    return str(value)


def _labels(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not 1 <= len(value) <= _LABELS_MAX:
        raise vol.Invalid(f'expected 1 to {_LABELS_MAX} labels, such as {{"team": "blue"}}')
    for name, text in value.items():
        if not (is_text(name, _LABEL_MAX_CHARS) and is_text(text, _LABEL_MAX_CHARS)):
            raise vol.Invalid(f"expected texts of at most {_LABEL_MAX_CHARS} characters")
    return tuple(sorted(value.items()))


def _features(value: Any) -> dict[str, int]:
    """Validate what a client can do; what it can besides is none of our business."""
    if (
        not isinstance(value, dict)
        or len(value) > _FEATURES_MAX
        or not all(type(each) in (int, bool) for each in value.values())
    ):
        raise vol.Invalid('expected numbers by name, such as {"coalesce_messages": 1}')
    return value


def _subscription(value: Any) -> int:
    if type(value) is not int:
        raise vol.Invalid("expected the id of the command that subscribed")
    return value


PING: Final = vol.Schema({})
UNSUBSCRIBE: Final = vol.Schema({vol.Required("subscription"): _subscription})
FEATURES: Final = vol.Schema({vol.Required("features"): _features})
AUTH: Final = vol.Schema({vol.Required("type"): "auth", vol.Required("access_token"): str})


def subscribe_schema(event_types: frozenset[str]) -> vol.Schema:
    """Return the schema of `subscribe_events` on a hub that has these types of events."""

    def types(value: Any) -> frozenset[str]:
        given = value if isinstance(value, list) else [value]
        if not 1 <= len(given) <= _TYPES_MAX:
            raise vol.Invalid(f"expected a type of events, or 1 to {_TYPES_MAX} of them")
        for each in given:
            if not isinstance(each, str) or each not in event_types:
                raise vol.Invalid(
                    f"unknown type of events {shown(each)}; known: {', '.join(sorted(event_types))}"
                )
        return frozenset(given)

    return vol.Schema(
        {"event_type": types, "job_id": _id, "node_id": _id, "label": _labels, "since": since}
    )


def wanted(fields: Mapping[str, Any]) -> Wanted:
    """Return what the fields of `subscribe_events` ask for."""
    events = EventFilter(
        fields.get("event_type"), fields.get("job_id"), fields.get("node_id"),
        fields.get("label", ()),
    )  # fmt: skip
    return Wanted(events, fields.get("since"))


def result(number: int, content: Any) -> bytes:
    """Return the answer to a command that did what it was asked."""
    return _dump({"id": number, "type": "result", "success": True, "result": content})


def failure(number: int, code: str, message: str, errors: Sequence[Any] = ()) -> bytes:
    """Return the answer to a command that did not; `errors` are several that it has."""
    error: dict[str, Any] = {"code": code, "message": message}
    if errors:
        error["errors"] = errors
    return _dump({"id": number, "type": "result", "success": False, "error": error})


def pong(number: int, last_seq: int | None) -> bytes:
    """Return the answer to `ping`; every wanted event until `last_seq` was sent before it."""
    answer: dict[str, Any] = {"id": number, "type": "pong"}
    return _dump(answer if last_seq is None else {**answer, "last_seq": last_seq})


def event(number: int, content: Mapping[str, Any]) -> bytes:
    """Return an event of a subscription."""
    return _dump({"id": number, "type": "event", "event": content})


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
