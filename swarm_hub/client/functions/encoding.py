"""Python values as one line of ASCII, and back: JSON, with a tag for each type that it lacks.

A value has one encoding. It is data only: nothing in it is imported, called or unpickled. This file
is half of what runs in the sandbox too (`device` is the other), so it imports the library alone.
"""

import base64
import binascii
import datetime
import json
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

DEPTH_MAX = 64
_JSON_INT_MAX = 2**53
# Of so many keys that have one hash looking them up takes minutes; nobody has them by chance.
_SAME_HASH_MAX = 1000


class EncodingError(ValueError):
    """A value that is not plain data, or a text that is no encoding of one."""


def encode(value: Any) -> str:
    """Return the encoding of a value; raises EncodingError for what is not plain data."""
    return _json(_plain(value, DEPTH_MAX))


def decode(text: str) -> Any:
    """Return the value of an encoding; raises EncodingError."""
    try:
        return _value(
            json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_one_pair),
            DEPTH_MAX,
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise EncodingError(f"no encoding of a value: {str(error)[:200]}") from None


def _json(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _plain(value: Any, depth: int) -> Any:
    """Return a value as JSON has it."""
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return value
    if kind is int:
        return value if -_JSON_INT_MAX < value < _JSON_INT_MAX else {"i": _of_int(value)}
    if kind is float:
        return value if math.isfinite(value) else {"f": "nan" if value != value else repr(value)}
    if kind is bytes or kind is bytearray:
        return {"b" if kind is bytes else "B": base64.b64encode(value).decode()}
    if depth <= 0:
        raise EncodingError(f"it is nested more than {DEPTH_MAX} deep")
    if kind is list:
        return [_plain(each, depth - 1) for each in value]
    if kind is tuple:
        return {"t": [_plain(each, depth - 1) for each in value]}
    if kind is dict:
        return {"d": [_plain(each, depth - 1) for pair in value.items() for each in pair]}
    if kind is set or kind is frozenset:
        found = sorted((_plain(each, depth - 1) for each in value), key=_json)
        return {"s" if kind is set else "S": found}
    return _of_time(value, kind)


def _of_int(value: int) -> str:
    size = (value.bit_length() + 8) // 8
    return base64.b64encode(value.to_bytes(size, "big", signed=True)).decode()


def _of_time(value: Any, kind: type) -> Any:
    if kind is datetime.date:
        return {"D": value.isoformat()}
    if kind is datetime.timedelta:
        return {"l": [value.days, value.seconds, value.microseconds]}
    if kind is datetime.datetime or kind is datetime.time:
        if value.tzinfo is not None and type(value.tzinfo) is not datetime.timezone:
            raise EncodingError(
                f"the time zone {str(value.tzinfo)[:60]!r} is no fixed offset; "
                "give value.astimezone(datetime.timezone.utc)"
            )
        return {"T" if kind is datetime.datetime else "H": [value.isoformat(), value.fold]}
    raise EncodingError(f"a {kind.__module__}.{kind.__qualname__} is not plain data{_hint(value)}")


def _hint(value: Any) -> str:
    for kind in (dict, list, tuple, str, bytes, bool, int, float, set, frozenset):
        if isinstance(value, kind):
            return f"; give {kind.__name__}(value)"
    if isinstance(value, range) or hasattr(value, "__next__"):
        return "; give list(value)"
    return "; give numbers, texts, bytes, dates, and lists, tuples, sets and dicts of them"


def _one_pair(pairs: list[tuple[str, Any]]) -> tuple[str, Any]:
    if len(pairs) != 1:
        raise EncodingError("an object has one tag")
    return pairs[0]


def _refuse_constant(name: str) -> Any:
    raise EncodingError(f"{name} is no JSON")


def _value(plain: Any, depth: int) -> Any:
    if plain is None or isinstance(plain, str | bool):
        return plain
    if isinstance(plain, int):
        if not -_JSON_INT_MAX < plain < _JSON_INT_MAX:
            raise EncodingError("a large number is not given by its digits")
        return plain
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise EncodingError("a number is out of range")
        return plain
    if isinstance(plain, list):
        return _values(plain, depth)
    tag, held = plain
    if (read := _READ.get(tag)) is not None:
        if tag in "bBifD" and not isinstance(held, str):
            raise EncodingError(f"the tag {tag} has a text")
        return read(held)
    if tag not in _COLLECTIONS or not isinstance(held, list):
        raise EncodingError(f"the tag {tag[:20]!r} is not known, or has no list")
    return _COLLECTIONS[tag](_values(held, depth))


def _values(plain: list[Any], depth: int) -> list[Any]:
    if depth <= 0:
        raise EncodingError(f"it is nested more than {DEPTH_MAX} deep")
    return [_value(each, depth - 1) for each in plain]


def _to_int(text: str) -> int:
    value = int.from_bytes(_to_bytes(text), "big", signed=True)
    if -_JSON_INT_MAX < value < _JSON_INT_MAX or _of_int(value) != text:
        raise EncodingError("a number has one encoding")
    return value


def _to_float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise EncodingError("a float is nan, inf or -inf there")
    return float(text)


def _to_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EncodingError(f"no base64: {error}") from None


def _to_datetime(held: Any) -> datetime.datetime:
    text, fold = held
    return datetime.datetime.fromisoformat(text).replace(fold=fold)


def _to_time(held: Any) -> datetime.time:
    text, fold = held
    return datetime.time.fromisoformat(text).replace(fold=fold)


def _to_timedelta(held: Any) -> datetime.timedelta:
    days, seconds, microseconds = held
    if not all(type(each) is int for each in held):
        raise EncodingError("a duration is three whole numbers")
    return datetime.timedelta(days, seconds, microseconds)


def _to_dict(flat: list[Any]) -> dict[Any, Any]:
    if len(flat) % 2:
        raise EncodingError("a key has no value")
    keys = flat[::2]
    _check_hashes(keys)
    found = dict(zip(keys, flat[1::2], strict=True))
    if len(found) * 2 != len(flat):
        raise EncodingError("a key is there twice")
    return found


def _to_set(values: list[Any]) -> set[Any]:
    _check_hashes(values)
    found = set(values)
    if len(found) != len(values):
        raise EncodingError("a member of a set is there twice")
    return found


def _check_hashes(keys: Iterable[Hashable]) -> None:
    counts: dict[int, int] = {}
    for key in keys:
        hashed = hash(key)
        counts[hashed] = counts.get(hashed, 0) + 1
        if counts[hashed] > _SAME_HASH_MAX:
            raise EncodingError("too many keys have the same hash")


_READ: dict[str, Callable[[Any], Any]] = {
    "i": _to_int,
    "f": _to_float,
    "b": _to_bytes,
    "B": lambda text: bytearray(_to_bytes(text)),
    "D": datetime.date.fromisoformat,
    "T": _to_datetime,
    "H": _to_time,
    "l": _to_timedelta,
}
_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "d": _to_dict,
    "s": _to_set,
    "S": lambda values: frozenset(_to_set(values)),
}
