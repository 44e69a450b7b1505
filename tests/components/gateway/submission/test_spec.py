"""The job spec: what is refused, with the path of each problem."""

import json
from typing import Any

import pytest

from swarm_hub.components.gateway.submission.spec import check_spec, parse_spec
from swarm_hub.exceptions import InvalidSpec, MalformedRequest, RequestError, TooLarge
from swarm_hub.models.job import Constraints, JobLimits, Split


@pytest.mark.parametrize(
    ("spec", "path", "said"),
    [
        ({"redcue": "sum"}, "redcue", "unknown key; did you mean reduce?"),
        ({"zzz": 1}, "zzz", "unknown key; known keys: abi, entry, split"),
        ({"reduce": "summ"}, "reduce", "did you mean sum?"),
        ({"reduce": 1}, "reduce", "expected one of sum, min, max"),
        ({"split": "line"}, "split", "unknown split 'line'; known: i32, lines"),
        ({"split": "line"}, "split", "did you mean lines?"),
        ({"split": "records"}, "split", "unknown split"),
        ({"split": "records:0"}, "split", "unknown split"),
        ({"split": "records:-4"}, "split", "unknown split"),
        ({"split": ["lines"]}, "split", "unknown split"),
        ({"shard_size": 0}, "shard_size", "whole number from 1"),
        ({"shard_size": 1.5}, "shard_size", "whole number"),
        ({"shard_size": True}, "shard_size", "whole number"),
        ({"redundancy": 8}, "redundancy", "from 1 to 7 or adaptive"),
        ({"redundancy": True}, "redundancy", "from 1 to 7 or adaptive"),
        ({"redundancy": "often"}, "redundancy", "or adaptive, got 'often'"),
        ({"deterministic": "yes"}, "deterministic", "expected true or false"),
        ({"limits": {"memory": "lots"}}, "limits.memory", "expected a size"),
        ({"limits": {"wall_time": 0}}, "limits.wall_time", "above 0"),
        ({"limits": {"fuel": -1}}, "limits.fuel", "whole number"),
        ({"limits": {"mem": 1}}, "limits.mem", "unknown key; did you mean memory?"),
        ({"limits": 5}, "limits", "expected a dictionary"),
        ({"args": "one"}, "args", "a list of at most 256 texts"),
        ({"args": [1]}, "args", "expected text"),
        ({"args": ["a\0b"]}, "args", "without NUL"),
        ({"env": ["A"]}, "env", "each with a text"),
        ({"env": {"A": 1}}, "env", "expected text"),
        ({"priority": 101}, "priority", "from -100 to 100"),
        ({"deadline_s": 0}, "deadline_s", "above 0"),
        ({"constraints": {"a": 1}}, "constraints.a", "unknown key"),
        ({"constraints": {"min_battery": 101}}, "constraints.min_battery", "from 0 to 100"),
        ({"constraints": {"node_labels": ["x"]}}, "constraints.node_labels", "each with a text"),
        ({"constraints": {"metered": "no"}}, "constraints.metered", "true or false"),
        ({"abi": 7}, "abi", "expected text"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(spec: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_spec(spec)
    error = caught.value
    assert (type(error), error.code) == (InvalidSpec, "invalid_spec")
    assert [each["path"] for each in error.errors] == [path]
    assert said in error.errors[0]["message"]
    assert path in error.message


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        check_spec({"reduce": "summ", "priority": 1000, "nope": 1})
    assert {each["path"] for each in caught.value.errors} == {"reduce", "priority", "nope"}


@pytest.mark.parametrize("plain", [[], "lines", 5, True])
def test_a_spec_must_be_an_object(plain: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check_spec(plain)
    assert isinstance(caught.value, InvalidSpec)


def test_the_whole_spec_is_understood() -> None:
    requested = parse_spec(
        json.dumps(
            {
                "abi": "wasi", "entry": "_start", "split": "records:12", "reduce": "list",
                "shard_size": 7, "redundancy": 1, "deterministic": True,
                "limits": {"fuel": 10, "memory": "1MiB", "wall_time": "1.5s", "output": 100},
                "args": ["a"], "env": {"B": "2", "A": "1"}, "priority": -3, "deadline_s": None,
                "constraints": {"metered": False}, "labels": {"who": "me"},
            }
        ).encode()
    )  # fmt: skip
    assert requested.split == (Split.RECORDS, 12)
    assert requested.limits == JobLimits(10, 1024**2, 1.5, 100)
    assert requested.constraints == Constraints(metered=False)
    assert requested.env == (("A", "1"), ("B", "2"))
    assert (requested.shard_size, requested.priority, requested.deterministic) == (7, -3, True)


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"priority": NaN}', b"[" * 100_000, b""])
def test_a_spec_that_is_not_json_is_400(raw: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_spec(raw)
    assert (type(caught.value), caught.value.code) == (MalformedRequest, "invalid_json")


def test_a_huge_spec_is_not_parsed() -> None:
    with pytest.raises(RequestError) as caught:
        parse_spec(b" " * (256 * 1024 + 1))
    assert isinstance(caught.value, TooLarge)


def test_specs_that_come_again_are_read_once_but_small_ones_only() -> None:
    """They are shared by jobs, so they must not change."""
    small, large = b'{"priority": 3}', b'{"priority": 3}' + b" " * 4096
    assert parse_spec(small) is parse_spec(bytes(bytearray(small)))
    assert parse_spec(large) is not parse_spec(large)
    assert hash(parse_spec(small)) == hash(parse_spec(large))
