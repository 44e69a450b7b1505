"""What schemathesis can't do by itself: write CBOR, and not wait. It imports this module."""

from typing import Any, Final

import cbor2
import schemathesis

# The hub holds an answer for up to 60 s if it is told to.
_WAIT_S: Final = 1


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]
) -> None:
    """Wait no longer than a second, and for no event that may never come."""
    query = case.query or {}
    if case.path.endswith("/events") and str(query.get("since", "")).isdigit():
        case.query["since"] = 0
    asked = str(query.get("wait", ""))
    if asked.isascii() and asked.isdigit() and int(asked) > _WAIT_S:
        case.query["wait"] = _WAIT_S if int(asked) <= 60 else asked


@schemathesis.serializer("application/cbor")
def _write_cbor(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return bytes(cbor2.dumps(_with_bytes(value)))


def _with_bytes(value: Any) -> Any:
    """Return a generated value; bytes come wrapped in a type of the library's own."""
    if isinstance(value, dict):
        return {name: _with_bytes(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_bytes(each) for each in value]
    if value is None or isinstance(value, str | int | float | bool | bytes):
        return value
    return value.data
