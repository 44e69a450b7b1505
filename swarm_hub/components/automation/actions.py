"""What an action may say: each kind with its keys, checked against what is allowed."""

import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.automation.hosts import is_allowed, port_of, split_url
from swarm_hub.components.automation.model import Action, Allowed
from swarm_hub.components.automation.templates import TEMPLATE_MAX_CHARS, check_templates
from swarm_hub.components.gateway import parse_spec
from swarm_hub.exceptions import RequestError
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.bounds import shown
from swarm_hub.util.strict_json import dump_json

_METHODS: Final = ("POST", "PUT", "PATCH", "GET", "DELETE")
_URL_MAX_CHARS: Final = 2048
_HEADERS_MAX: Final = 32
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z", re.ASCII)
# The hub's own.
_OWN_HEADERS: Final = (
    "host", "content-length", "connection", "transfer-encoding", "idempotency-key",
)  # fmt: skip
_SHA: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_REASON_MAX: Final = 200
RESULT: Final = "result"

_text: Final = cv.text(TEMPLATE_MAX_CHARS, 1)
# Of the job or the node that triggered it.
_OF_JOB: Final = "{{ job.id }}"
_OF_NODE: Final = "{{ event.data.node_id }}"


def action(value: Any, allowed: Allowed) -> Action:
    """Validate an action: a mapping with its kind as the only key."""
    if not isinstance(value, dict) or len(value) != 1:
        raise vol.Invalid(
            f"expected one of {', '.join(_KINDS)}, with what it does, got {shown(value)}"
        )
    ((kind, given),) = value.items()
    if kind not in _KINDS:
        hint = cv.did_you_mean(kind, tuple(_KINDS)) or f"; known: {', '.join(_KINDS)}"
        raise vol.Invalid(f"unknown action{hint}", path=[kind])
    try:
        content = _KINDS[kind](given, allowed)
        check_templates(content)
    except vol.Invalid as error:
        error.prepend([kind])
        raise
    return Action(kind, content)


def _webhook(value: Any, allowed: Allowed) -> Mapping[str, Any]:
    content = _of_keys(_WEBHOOK, "url", value)
    try:
        parts = split_url(content["url"])
        host, port = parts.hostname or "", port_of(parts)
    except ValueError as error:
        raise vol.Invalid(str(error), path=["url"]) from None
    if any(sign in parts.netloc for sign in "{}%"):
        raise vol.Invalid(
            "the host has to be written out; only what follows it can be a template", path=["url"]
        )
    if not is_allowed(allowed.hosts, host, port):
        raise vol.Invalid(
            f"{host}:{port} is not allowed; add it with `- allow: {{hosts: [{host}]}}`",
            path=["url"],
        )
    return content


def _command(value: Any, allowed: Allowed) -> Mapping[str, Any]:
    content = _of_keys(_COMMAND, "name", value)
    name = content["name"]
    if name not in allowed.commands:
        near = cv.did_you_mean(name, tuple(allowed.commands))
        hint = near or f"; add it with `- allow: {{commands: {{{name}: [PROGRAM, ARGUMENT]}}}}`"
        path: list[Hashable] = ["name"] if isinstance(value, dict) else []
        raise vol.Invalid(f"the command {shown(name)} is not allowed{hint}", path=path)
    return content


def _submit(value: Any, _allowed: Allowed) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise vol.Invalid("expected module or script, dataset, and what else the job's spec has")
    own = {name: value[name] for name in ("module", "script", "dataset") if name in value}
    content = _of_keys(_SUBMIT, "module", own)
    if ("module" in content) == ("script" in content):
        raise vol.Invalid("expected one of module and script")
    spec = {name: given for name, given in value.items() if name not in own}
    try:
        parse_spec(dump_json(spec))
    except RequestError as error:
        problems = [
            vol.Invalid(each["message"], path=[part for part in each["path"].split(".") if part])
            for each in error.errors
        ]
        raise vol.MultipleInvalid(problems or [vol.Invalid(error.message)]) from None
    return {**content, "spec": spec}


def _file(value: Any) -> str:
    """Validate the name of a file below the configuration directory."""
    if not isinstance(value, str) or not 0 < len(value) <= 1024 or "\0" in value:
        raise vol.Invalid(f"expected the name of a file, got {shown(value)}")
    if value.startswith(("/", "~")) or ".." in re.split(r"[/\\]", value):
        raise vol.Invalid(f"expected a file below the configuration directory, got {shown(value)}")
    return value


def _module(value: Any) -> str:
    return value if isinstance(value, str) and _SHA.match(value) else _file(value)


def _dataset(value: Any) -> Mapping[str, Any]:
    if value == RESULT:
        return {RESULT: _OF_JOB}
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= set(_DATASETS):
        raise vol.Invalid(
            f"expected result, or one of {', '.join(_DATASETS)} with its value, got {shown(value)}"
        )
    ((kind, given),) = value.items()
    try:
        return {kind: _DATASETS[kind](given)}
    except vol.Invalid as error:
        error.prepend([kind])
        raise


def _range(value: Any) -> list[int]:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) is int and abs(each) < 2**53 for each in value)
    ):
        return list(value)
    raise vol.Invalid(f"expected two whole numbers such as [0, 1000], got {shown(value)}")


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _HEADERS_MAX:
        raise vol.Invalid(f"expected at most {_HEADERS_MAX} names, each with a text")
    for name, text in value.items():
        if not (isinstance(name, str) and _HEADER.match(name)) or name.lower() in _OWN_HEADERS:
            raise vol.Invalid(f"{shown(name)} can't be set here", path=[name])
        if not isinstance(text, str) or len(text) > TEMPLATE_MAX_CHARS:
            raise vol.Invalid(f"expected text, got {shown(text)}", path=[name])
    return dict(value)


def _plain(into: Any) -> dict[str, Any]:
    return {name: each for name, each in into.items() if each is not None}


def _of_keys(schema: Callable[[Any], Mapping[str, Any]], main: str, value: Any) -> dict[str, Any]:
    """Validate a mapping, or in its place the value of its main key alone."""
    return _plain(schema(value if isinstance(value, dict) else {main: value}))


def _keys(**keys: Any) -> Callable[[Any], Mapping[str, Any]]:
    """Return a section's validator; each key has its check, and its default unless it needs one."""
    schema: dict[Any, Any] = {}
    needed = []
    for name, given in keys.items():
        check, default = given if isinstance(given, tuple) else (given, vol.UNDEFINED)
        schema[cv.Key(name, default=default, reloadable=True)] = check
        if default is vol.UNDEFINED:
            needed.append(name)

    def into(**checked: Any) -> dict[str, Any]:
        for name in needed:
            if name not in checked:
                raise vol.Invalid("this key is required", path=[name])
        return checked

    return cv.section(schema, into)


_DATASETS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": cv.text(TEMPLATE_MAX_CHARS), "file": _file, "range": _range, RESULT: _text,
}  # fmt: skip
_WEBHOOK: Final = _keys(
    url=cv.text(_URL_MAX_CHARS, 1),
    method=(cv.one_of(*_METHODS), "POST"),
    headers=(_headers, dict),
    body=(cv.text(TEMPLATE_MAX_CHARS), ""),
)
_COMMAND: Final = _keys(
    name=cv.text(100, 1),
    input=(cv.text(TEMPLATE_MAX_CHARS), ""),
    timeout=(cv.positive_duration, 60),
)
_SUBMIT: Final = _keys(
    module=(cv.optional(_module), None), script=(cv.optional(_file), None), dataset=_dataset
)
_REASONED: Final = _keys(
    node=(_text, _OF_NODE), reason=(cv.text(_REASON_MAX), "an automation says so")
)
_Kind = Callable[[Any, Allowed], Mapping[str, Any]]


def _of(schema: Callable[[Any], Mapping[str, Any]], main: str) -> _Kind:
    def validate(value: Any, _allowed: Allowed) -> Mapping[str, Any]:
        return _of_keys(schema, main, {} if value is None else value)

    return validate


_KINDS: Final[Mapping[str, _Kind]] = {
    "webhook": _webhook,
    "command": _command,
    "submit": _submit,
    "cancel": _of(_keys(job=(_text, _OF_JOB)), "job"),
    "drain": _of(_REASONED, "node"),
    "undrain": _of(_keys(node=(_text, _OF_NODE)), "node"),
    "pause": _of(_keys(**{"for": (cv.optional(cv.positive_duration), None)}), "for"),
    "resume": _of(_keys(), "for"),
    "notify": _of(_keys(message=_text), "message"),
}
