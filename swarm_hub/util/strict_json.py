"""JSON from strangers: no NaN, no numbers out of range, no deep nesting, no broken text."""

import itertools
import json
import math
import re
from typing import Any, Final

from swarm_hub.exceptions import MalformedRequest

# Python's own bound is what the stack bears, which from 3.14 on is ten thousands of levels; whoever
# walks through the value afterwards bears a thousand.
_DEPTH_MAX: Final = 200
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS: Final = re.compile(r"[^][{}]+")
_STEPS: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse_json(raw: bytes, what: str) -> Any:
    """Read strict JSON; raises MalformedRequest that names `what`."""
    try:
        # The parser lets halves of surrogate pairs pass, as bytes and as \ud800, which can't be
        # written as UTF-8 again.
        text = raw.decode("utf-8-sig")
        if _is_deep(text):
            raise MalformedRequest("invalid_json", f"{what}: nested too deeply")
        value = json.loads(text, parse_constant=refuse_constant, parse_float=finite)
        if "\\u" in text:
            dump_json(value)
        return value
    except RecursionError:
        raise MalformedRequest("invalid_json", f"{what}: nested too deeply") from None
    except UnicodeError:
        raise MalformedRequest("invalid_json", f"{what}: its text is not valid UTF-8") from None
    except ValueError as error:
        raise MalformedRequest("invalid_json", f"{what}: not valid JSON: {error}") from None


def dump_json(value: Any) -> bytes:
    """Write compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def refuse_constant(name: str) -> float:
    """Raise ValueError for NaN and Infinity, which Python's parser takes."""
    raise ValueError(f"{name} is not a JSON number")


def finite(text: str) -> float:
    """Return a number with a point or an exponent; raises ValueError if no float is that large."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= _DEPTH_MAX:
        return False
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text))
    return max(itertools.accumulate(_STEPS[each] for each in brackets), default=0) > _DEPTH_MAX
