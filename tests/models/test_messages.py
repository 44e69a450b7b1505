"""Messages and their records: what a later version adds is ignored, what is missing is named."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.models import features, messages
from swarm_hub.models.call import ModuleCall, Script
from swarm_hub.models.features import BASELINE, FEATURES, FEATURES_MAX, PREEMPT
from swarm_hub.models.messages import (
    Assign,
    Nack,
    OfferedShard,
    Result,
    Unreadable,
    read_assign,
    read_result,
)
from swarm_hub.models.node import Telemetry, WorkerOffer
from swarm_hub.util.shape import told

SHA = "a" * 64
CALL = ModuleCall(
    SHA, "wasi", "_start", 10, 65536, 1.5, 100, ("x", "y"), (("NAME", "text"),), True,
    Script("main.bf", "b" * 64, 5), ("deterministic", "fuel", "script"),
)  # fmt: skip
SHARDS = tuple(OfferedShard(f"J.{n}.1", SHA, n, None if n else b"data") for n in range(3))
ASSIGN = Assign(CALL, 1000, SHARDS)
RESULT = Result("J.0.1", "ok", "", SHA, SHA, 3, b"abc", 0.5, 0.25, 65536, 7)
NACK = Nack(("J.0.1", "J.1.1"), "no", frozenset({"script"}))

# What can come over the wire: CBOR of a few kinds, as it nests.
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)  # fmt: skip
# No name that any record has now.
later_keys = st.dictionaries(st.text(min_size=1, max_size=9).map("later ".__add__), values)
later_elements = st.lists(values, max_size=3)


@given(later_keys, later_keys, later_keys, later_elements)
def test_what_a_later_version_adds_to_an_assign_makes_no_difference(
    to_message: dict[str, Any], to_call: dict[str, Any], to_script: dict[str, Any],
    behind: list[Any],
) -> None:  # fmt: skip
    wire = ASSIGN.to_wire()
    call = {**plain_call(), **to_call}
    call["script"] = {**call["script"], **to_script}
    call["env"] = [[*pair, *behind] for pair in CALL.env]
    shards = [[*shard, *behind] for shard in wire["shards"]]
    later = {**wire, **to_message, "call": call, "shards": shards}
    assert read_assign(later) == (ASSIGN, [])


@given(later_keys)
def test_what_a_later_version_adds_to_the_other_messages_makes_no_difference(
    added: dict[str, Any],
) -> None:
    assert read_result({**RESULT.to_wire(), **added}) == RESULT
    assert Nack.from_wire({**NACK.to_wire(), **added}) == NACK
    assert messages.ids({"ids": ["J.0.1"], **added}) == ["J.0.1"]
    assert messages.read_drain({"reason": "hot", "node": "me", **added}) == ("me", "hot")
    telemetry = Telemetry(cpu_percent=1.5, metered=True)
    assert Telemetry.from_wire({**telemetry.to_wire(), **added}) == telemetry
    offer = {"slots": 2, "memory_bytes": 5, "labels": {"a": "b"}, "features": ["script"],
             "wall_time_s": 60}  # fmt: skip
    assert WorkerOffer.from_wire({**offer, **added}) == WorkerOffer.from_wire(offer)


def plain_call() -> dict[str, Any]:
    """The call as it is decoded: CBOR has lists only."""
    plain = CALL.to_plain()
    return {**plain, "args": list(CALL.args), "env": [list(pair) for pair in CALL.env],
            "needs": list(CALL.needs)}  # fmt: skip


def without(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize("name", ["module_sha", "abi", "entry", "args", "env"])
def test_what_a_call_lacks_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^call: '{name}' is missing$"):
        ModuleCall.from_plain(without(plain_call(), name))


@pytest.mark.parametrize("name", ["name", "sha", "size_bytes"])
def test_what_a_script_lacks_is_named(name: str) -> None:
    script = without(plain_call()["script"], name)
    with pytest.raises(ValueError, match=f"^call: '{name}' is missing$"):
        ModuleCall.from_plain({**plain_call(), "script": script})


@pytest.mark.parametrize(
    "name",
    ["fuel", "memory_bytes", "wall_time_s", "output_bytes", "deterministic", "script", "needs"],
)
def test_what_a_call_may_do_without_is_as_if_it_were_nothing(name: str) -> None:
    read = ModuleCall.from_plain(without(plain_call(), name))
    empty = {"deterministic": False, "needs": ()}.get(name)
    assert getattr(read, name) == empty


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"module_sha": "x"}, "'module_sha' is not a SHA-256"),
        ({"abi": 7}, "'abi' is not text"),
        ({"entry": None}, "'entry' is not text"),
        ({"fuel": -1}, "'fuel' is not a size"),
        ({"fuel": True}, "'fuel' is not a size"),
        ({"wall_time_s": float("nan")}, "'wall_time_s' is not a duration"),
        ({"args": "x"}, "'args' is not a list"),
        ({"args": [b"x"]}, "'args' is not text"),
        ({"env": [["NAME"]]}, r"a variable of 'env' is not \[name, text\]"),
        ({"env": ["NAME"]}, r"a variable of 'env' is not \[name, text\]"),
        # A worker that took this for false would compute something else.
        ({"deterministic": 1}, "'deterministic' is not a bool"),
        ({"script": "x"}, "'script' is not a map"),
        ({"needs": "x"}, "'needs' is not a list of at most 64 texts"),
        ({"needs": [1]}, "'needs' is not a list of at most 64 texts"),
        ({"needs": [""]}, "'needs' is not a list of at most 64 texts"),
        ({"needs": ["x" * 65]}, "'needs' is not a list of at most 64 texts"),
        ({"needs": ["x"] * 65}, "'needs' is not a list of at most 64 texts"),
    ],
)
def test_what_is_wrong_in_a_call_is_said(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^call: {said}"):
        ModuleCall.from_plain({**plain_call(), **changed})


@given(values)
def test_whatever_stands_for_a_call_is_read_or_a_value_error(plain: Any) -> None:
    with pytest.raises(ValueError, match=r"^call: "):
        ModuleCall.from_plain(plain)


def test_a_plain_call_says_nothing_of_what_it_does_not_need() -> None:
    assert not {"needs", "script"} & ModuleCall(SHA, "range", "main").to_plain().keys()


@pytest.mark.parametrize("name", RESULT.to_wire())
def test_what_a_result_lacks_is_named_and_so_is_its_assignment(name: str) -> None:
    fields = without(RESULT.to_wire(), name)
    if name in ("peak", "fuel", "call_sha"):
        assert isinstance(read_result(fields), Result)
    elif name == "id":
        with pytest.raises(ValueError, match=r"^'id' is missing$"):
            read_result(fields)
    else:
        assert read_result(fields) == Unreadable(f"result: '{name}' is missing", ("J.0.1",))


@pytest.mark.parametrize("name", ["call", "module_bytes"])
def test_an_assign_that_lacks_what_all_its_shards_share_gives_all_of_them_back(name: str) -> None:
    everyone = tuple(shard.assignment_id for shard in SHARDS)
    reason = f"assign: '{name}' is missing"
    assert read_assign(without(wire_assign(), name)) == (None, [Unreadable(reason, everyone)])


def wire_assign() -> dict[str, Any]:
    return {**ASSIGN.to_wire(), "call": plain_call()}


def test_an_assign_without_shards_names_them() -> None:
    with pytest.raises(KeyError) as caught:
        read_assign(without(wire_assign(), "shards"))
    assert told(caught.value) == "'shards' is missing"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_shard_that_is_too_short_is_given_back_alone(length: int) -> None:
    wire = wire_assign()
    names = ("assignment_id", "input_sha", "size_bytes", "data")
    shards = [wire["shards"][0], wire["shards"][1][:length], wire["shards"][2]]
    assign, unreadable = read_assign({**wire, "shards": shards})
    assert assign is not None
    assert [shard.assignment_id for shard in assign.shards] == ["J.0.1", "J.2.1"]
    reason = f"assign: a shard: '{names[length]}' is missing"
    assert unreadable == [Unreadable(reason, ("J.1.1",))]


@given(st.lists(values, max_size=5))
def test_whatever_stands_among_the_shards_costs_no_other_one(odd: list[Any]) -> None:
    wire = wire_assign()
    assign, unreadable = read_assign({**wire, "shards": [*odd, *wire["shards"]]})
    assert assign is not None
    assert assign.shards == SHARDS
    assert bool(odd) == bool(unreadable)


@pytest.mark.parametrize(
    ("read", "fields", "missing"),
    [
        (messages.ids, {}, "ids"),
        (Nack.from_wire, {"reason": "no"}, "ids"),
        (Nack.from_wire, {"ids": []}, "reason"),
        (messages.read_drain, {"node": None}, "reason"),
    ],
)
def test_what_another_message_lacks_is_named(
    read: Any, fields: dict[str, Any], missing: str
) -> None:
    with pytest.raises(KeyError) as caught:
        read(fields)
    assert told(caught.value) == f"'{missing}' is missing"


def test_of_ids_those_that_can_be_none_are_left_out() -> None:
    assert messages.ids({"ids": [None, "J.0.1", "", "x" * 81, 5, [], "J.1.1"]}) == [
        "J.0.1",
        "J.1.1",
    ]


@given(values)
def test_features_of_a_peer_are_bounded_names(said: Any) -> None:
    assert features.read_features(said) == frozenset() or isinstance(said, list)
    many = [f"feature {number}" for number in range(FEATURES_MAX + 5)]
    assert len(features.read_features([*many, said])) == FEATURES_MAX


def test_a_worker_that_says_nothing_of_features_has_those_of_the_beginning() -> None:
    assert WorkerOffer.from_wire({"slots": 1}).features == BASELINE
    assert WorkerOffer.from_wire({"features": []}).features == frozenset()
    assert WorkerOffer.from_wire({"features": ["script", 7, "later"]}).features == {
        "script",
        "later",
    }
    assert BASELINE <= FEATURES
    # They are in workers that exist: this set is never another.
    assert {"deterministic", "fuel", "script"} == BASELINE
    assert PREEMPT in FEATURES


@pytest.mark.parametrize(
    ("said", "read"),
    [(60, 60.0), (0.5, 0.5), (0, None), (-1, None), (1e9, None), (float("nan"), None),
     (10**400, None), ("60", None), (True, None), (None, None)],
)  # fmt: skip
def test_the_wall_time_that_a_worker_offers_is_within_bounds_or_unknown(
    said: Any, read: float | None
) -> None:
    assert WorkerOffer.from_wire({"wall_time_s": said}).wall_time_s == read
    assert WorkerOffer.from_wire({}).wall_time_s is None
