"""The job spec as users write it, checked key by key; every problem is named with its path."""

import functools
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.submission.chosen_items import RUNS_MAX, Run
from swarm_hub.components.gateway.submission.reducers import Reducer
from swarm_hub.exceptions import InvalidSpec, TooLarge
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.call import NAME_MAX_CHARS
from swarm_hub.models.job import (
    ON_ERROR_FAIL,
    ON_ERROR_SKIP,
    Constraints,
    JobLimits,
    KnownAnswer,
    Split,
)
from swarm_hub.util.bounds import ITEMS_MAX, LIST_MAX, TEXT_MAX_CHARS, is_int, is_number, shown
from swarm_hub.util.described import described
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.strict_json import parse_json

SPEC_MAX_BYTES: Final = 256 * 1024
# Of specs that are kept, and how large one of them may be.
_KNOWN: Final = 128
_KNOWN_MAX_BYTES: Final = 4096
_RECORDS: Final = re.compile(r"records:([1-9][0-9]{0,8})\Z", re.ASCII)
_PLAIN_SPLITS: Final = tuple(split.value for split in Split if split is not Split.RECORDS)
_SPLIT_PATTERN: Final = f"^({'|'.join(_PLAIN_SPLITS)}|records:[1-9][0-9]{{0,8}})$"
_text: Final = cv.text()
_name: Final = cv.text(NAME_MAX_CHARS)
_optional: Final = cv.optional
_priority: Final = cv.integer(-100, 100)
_ERRORS_MAX: Final = 100
_KNOWN_MAX: Final = 1000
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


@described({"type": "string", "pattern": _SPLIT_PATTERN, "examples": ["lines"]})
def _split(value: Any) -> tuple[Split, int]:
    if isinstance(value, str):
        if value in _PLAIN_SPLITS:
            return Split(value), 0
        if match := _RECORDS.match(value):
            return Split.RECORDS, int(match[1])
    known = (*_PLAIN_SPLITS, "records:N")
    raise vol.Invalid(
        f"unknown split {shown(value)}; known: {', '.join(known)}{cv.did_you_mean(value, known)}"
    )


@described(
    {
        "type": "array",
        "maxItems": LIST_MAX,
        "items": {"type": "string", "maxLength": TEXT_MAX_CHARS},
    }
)
def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_MAX:
        raise vol.Invalid(f"expected a list of at most {LIST_MAX} texts")
    return tuple(_text(each) for each in value)


@described(
    {
        "type": "object",
        "maxProperties": LIST_MAX,
        "additionalProperties": {"type": "string", "maxLength": TEXT_MAX_CHARS},
    }
)
def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or len(value) > LIST_MAX:
        raise vol.Invalid(f"expected at most {LIST_MAX} names, each with a text")
    return tuple(sorted((_text(name), _text(text)) for name, text in value.items()))


@described({"type": ["integer", "string"], "minimum": 0, "examples": ["5%"]})
def _max_failures(value: Any) -> int | float:
    """Return a number of items, or the share that a text such as `5%` stands for."""
    if isinstance(value, str) and value.endswith("%"):
        try:
            percent = float(value[:-1])
        except ValueError:
            percent = -1.0
        if is_number(percent, 0, 100):
            return percent / 100
    elif is_int(value, 0, ITEMS_MAX):
        return int(value)
    raise vol.Invalid("expected a number of items, or a share of them such as 5%")


_LIMITS: Final = {
    vol.Optional("fuel", default=None): _optional(cv.integer(1, 2**62)),
    vol.Optional("memory", default=None): _optional(cv.size),
    vol.Optional("wall_time", default=None): _optional(cv.positive_duration),
    vol.Optional("output", default=None): _optional(cv.size),
}

_CONSTRAINTS: Final = {
    vol.Optional("memory", default=None): _optional(cv.size),
    vol.Optional("min_battery", default=None): _optional(cv.number(0, 100)),
    vol.Optional("max_temperature", default=None): _optional(cv.number(-20, 120)),
    vol.Optional("charging", default=False): cv.boolean,
    vol.Optional("metered", default=True): cv.boolean,
    vol.Optional("node_labels", default=dict): _pairs,
}


@described({"type": "string", "pattern": "^[0-9a-f]{64}$"})
def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise vol.Invalid("expected the SHA-256 of the result's bytes in 64 hex digits")
    return value


@dataclass(frozen=True, slots=True)
class _RequestedAnswer:
    first_item: int
    n_items: int
    sha256: str | None
    result: str | None


_KNOWN_ANSWER: Final = cv.section(
    {
        vol.Required("first_item"): cv.integer(0, ITEMS_MAX),
        vol.Optional("n_items", default=1): cv.integer(1, ITEMS_MAX),
        vol.Optional("sha256", default=None): _optional(_sha256),
        vol.Optional("result", default=None): _optional(_text),
    },
    _RequestedAnswer,
)


def _known_answer(value: Any) -> KnownAnswer:
    requested: _RequestedAnswer = _KNOWN_ANSWER(value)
    if (requested.sha256 is None) == (requested.result is None):
        raise vol.Invalid("expected either `sha256` or `result`")
    sha = requested.sha256 or sha256_hex((requested.result or "").encode())
    return KnownAnswer(requested.first_item, requested.n_items, sha)


@described(
    {
        "type": "array",
        "maxItems": _KNOWN_MAX,
        "items": {
            "type": "object",
            "properties": {
                "first_item": {"type": "integer", "minimum": 0, "maximum": ITEMS_MAX},
                "n_items": {"type": "integer", "minimum": 1, "maximum": ITEMS_MAX, "default": 1},
                "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
                "result": {"type": ["string", "null"]},
            },
            "required": ["first_item"],
            "additionalProperties": False,
        },
    }
)
def _known_answers(value: Any) -> tuple[KnownAnswer, ...]:
    if not isinstance(value, list) or len(value) > _KNOWN_MAX:
        raise vol.Invalid(f"expected a list of at most {_KNOWN_MAX} answers")
    known = sorted(vol.Schema([_known_answer])(value), key=lambda each: each.first_item)
    for before, after in pairwise(known):
        if before.first_item + before.n_items > after.first_item:
            raise vol.Invalid(f"two answers are for item {after.first_item}")
    return tuple(known)


@dataclass(frozen=True, slots=True)
class RequestedSpec:
    """A checked spec; None where the module or the dataset will decide."""

    abi: str | None
    entry: str | None
    split: tuple[Split, int] | None
    reduce: str | None
    shard_size: int | None
    redundancy: int | str | None
    deterministic: bool
    limits: JobLimits
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    priority: int
    deadline_s: float | None
    constraints: Constraints | None
    labels: tuple[tuple[str, str], ...]
    name: str | None
    known_answers: tuple[KnownAnswer, ...]
    isolate: bool | None
    on_error: str
    # A float is a share of all items.
    max_failures: int | float | None
    runtime: str | None


SPEC: Final = cv.section(
    {
        vol.Optional("abi", default=None): _optional(_name),
        vol.Optional("entry", default=None): _optional(_name),
        vol.Optional("split", default=None): _optional(_split),
        vol.Optional("reduce", default=None): _optional(Reducer()),
        vol.Optional("shard_size", default=None): _optional(cv.integer(1, ITEMS_MAX)),
        vol.Optional("redundancy", default=None): _optional(cv.redundancy),
        vol.Optional("deterministic", default=False): cv.boolean,
        vol.Optional("limits", default=dict): cv.section(_LIMITS, JobLimits),
        vol.Optional("args", default=list): _texts,
        vol.Optional("env", default=dict): _pairs,
        vol.Optional("priority", default=0): _priority,
        vol.Optional("deadline_s", default=None): _optional(cv.positive_duration),
        vol.Optional("constraints", default=None): _optional(cv.section(_CONSTRAINTS, Constraints)),
        vol.Optional("labels", default=dict): _pairs,
        vol.Optional("name", default=None): _optional(_name),
        vol.Optional("known_answers", default=list): _known_answers,
        vol.Optional("isolate", default=None): _optional(cv.boolean),
        vol.Optional("on_error", default=ON_ERROR_FAIL): cv.one_of(ON_ERROR_FAIL, ON_ERROR_SKIP),
        vol.Optional("max_failures", default=None): _optional(_max_failures),
        vol.Optional("runtime", default=None): _optional(_name),
    },
    RequestedSpec,
)


# The description of the API has it once, under this name.
SPEC.title = "JobSpec"  # type: ignore[attr-defined]
# What may be changed of a job while it runs, and of one that is submitted once more.
_CHANGES: Final = {
    vol.Optional("priority"): _priority,
    vol.Optional("deadline_s"): _optional(cv.positive_duration),
    vol.Optional("labels"): _pairs,
}
CHANGE_SCHEMA: Final = vol.Schema(_CHANGES)
FAILED_ITEMS: Final = "failed"


@described(
    {
        "anyOf": [
            {"type": "string", "enum": [FAILED_ITEMS]},
            {
                "type": "array",
                "minItems": 1,
                "maxItems": RUNS_MAX,
                "items": {
                    "type": "object",
                    "properties": {
                        "first_item": {"type": "integer", "minimum": 0, "maximum": ITEMS_MAX},
                        "n_items": {
                            "type": "integer", "minimum": 1, "maximum": ITEMS_MAX, "default": 1,
                        },
                    },
                    "required": ["first_item"],
                    "additionalProperties": False,
                },
            },
            {"type": "null"},
        ]
    }
)  # fmt: skip
def _items(value: Any) -> str | list[Run] | None:
    if value is None or value == FAILED_ITEMS:
        return value  # type: ignore[no-any-return]
    if not isinstance(value, list) or not 1 <= len(value) <= RUNS_MAX:
        raise vol.Invalid(
            f'expected "{FAILED_ITEMS}" or a list of 1 to {RUNS_MAX} runs such as '
            '{"first_item": 3, "n_items": 2}'
        )
    return [(each["first_item"], each["n_items"]) for each in vol.Schema([_RUN])(value)]


_RUN: Final = {
    vol.Required("first_item"): cv.integer(0, ITEMS_MAX),
    vol.Optional("n_items", default=1): cv.integer(1, ITEMS_MAX),
}
RESUBMISSION_SCHEMA: Final = vol.Schema(
    {
        # Those of its items that the job is to have; by default all.
        vol.Optional("items", default=None): _items,
        vol.Optional("spec", default=dict): vol.Schema(
            {
                **_CHANGES,
                vol.Optional("name"): _optional(_name),
                vol.Optional("env"): _pairs,
                vol.Optional("limits"): cv.section(_LIMITS, JobLimits),
                vol.Optional("constraints"): _optional(cv.section(_CONSTRAINTS, Constraints)),
            }
        ),
    }
)


def parse_spec(raw: bytes) -> RequestedSpec:
    """Read a spec from JSON; raises MalformedRequest for bad JSON and InvalidSpec for bad keys."""
    if len(raw) > SPEC_MAX_BYTES:
        raise TooLarge("spec_too_large", "the spec is larger than 256 KiB")
    return _known_spec(raw) if len(raw) <= _KNOWN_MAX_BYTES else _read_spec(raw)


def check_spec(plain: Any) -> RequestedSpec:
    """Check a decoded spec; raises InvalidSpec that lists every problem with its path."""
    try:
        return SPEC(plain)
    except vol.Invalid as error:
        found = error.errors if isinstance(error, vol.MultipleInvalid) else [error]
        errors = [
            {"path": ".".join(str(part)[:200] for part in each.path), "message": each.msg}
            for each in found[:_ERRORS_MAX]
        ]
        first = errors[0]
        raise InvalidSpec(
            "invalid_spec",
            f"spec: {first['path']}: {first['message']}" if first["path"] else first["message"],
            errors,
        ) from None


def _read_spec(raw: bytes) -> RequestedSpec:
    return check_spec(parse_json(raw, "spec"))


# Jobs that come one after the other have the same spec, which takes 170 µs to check. It can't be
# changed, so they share it.
_known_spec: Final = functools.lru_cache(maxsize=_KNOWN)(_read_spec)
