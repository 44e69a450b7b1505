"""JSON of strangers is bounded the same on every Python."""

import pytest

from swarm_hub.exceptions import MalformedRequest
from swarm_hub.util.strict_json import parse_json


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 201 + b"]" * 201,
        b'{"a":' * 201 + b"1" + b"}" * 201,
        b'["\\"]]]]", ' + b"[" * 200 + b"]" * 201,
        b"[[]]" * 100 + b"[" * 201,
        b"[" * 60_000,
    ],
)
def test_what_is_nested_too_deeply_is_refused_by_a_bound_of_our_own(raw: bytes) -> None:
    with pytest.raises(MalformedRequest, match="what: nested too deeply"):
        parse_json(raw, "what")


def test_many_brackets_side_by_side_or_in_texts_are_not_deep() -> None:
    assert parse_json(b"[" * 200 + b"]" * 200, "what")
    assert len(parse_json(b"[" + b"[1, {}]," * 1000 + b"[]]", "what")) == 1001
    texts = ["[" * 300, '\\"' + "[" * 300, "{" * 300]
    written = b'["' + b"[" * 300 + b'", "\\\\\\"' + b"[" * 300 + b'", "' + b"{" * 300 + b'"]'
    assert parse_json(written, "what") == texts
