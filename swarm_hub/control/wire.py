"""Requests and answers of the control socket: JSON, one a line, each within bounds.

{"command": "pause", "arguments": {"for_s": 7200}}
{"ok": true, "answer": {…}}
{"ok": false, "code": "unknown_command", "error": "this hub has no command 'paws'; …"}
"""

from collections.abc import Mapping
from typing import Any, Final

from swarm_hub.exceptions import HubError, MalformedRequest
from swarm_hub.util.strict_json import dump_json, parse_json

REQUEST_MAX_BYTES: Final = 64 * 1024
ANSWER_MAX_BYTES: Final = 1024 * 1024


def answered(answer: Mapping[str, Any]) -> bytes:
    """Return the line of an answer."""
    return dump_json({"ok": True, "answer": answer}) + b"\n"


def refused(error: HubError) -> bytes:
    """Return the line that says why there is no answer."""
    code = getattr(error, "code", "refused")
    return dump_json({"ok": False, "code": code, "error": str(error)}) + b"\n"


def read_answer(line: bytes) -> dict[str, Any]:
    """Return the plain content of an answer's line; raises HubError if it is none."""
    try:
        content = parse_json(line, "the answer")
    except MalformedRequest as error:
        raise HubError(f"the hub's answer can't be read: {error}") from error
    if not isinstance(content, dict):
        raise HubError("the hub's answer can't be read: it is not an object")
    return content
