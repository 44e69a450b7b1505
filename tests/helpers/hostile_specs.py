"""Specs with values out of every range, each of which a gateway must refuse with 422."""

from typing import Any, Final

HUGE: Final = 10**400

# What cost a gateway its life, or the client an answer that says nothing.
SPECS: Final[list[dict[str, Any]]] = [
    {"limits": {"memory": HUGE}},
    {"limits": {"memory": 2**63}},
    {"limits": {"output": 2**64}},
    {"limits": {"fuel": HUGE}},
    {"limits": {"wall_time": HUGE}},
    {"limits": {"memory": "9" * 400 + "GiB"}},
    {"limits": {"memory": "99999999999999999999TiB"}},
    {"constraints": {"memory": HUGE}},
    {"constraints": {"min_battery": HUGE}},
    {"constraints": {"max_temperature": -HUGE}},
    {"deadline_s": HUGE},
    {"deadline_s": 1e300},
    {"deadline_s": "9" * 400 + "d"},
    {"shard_size": HUGE},
    {"redundancy": HUGE},
    {"priority": -HUGE},
    {"args": ["a\0b"]},
    {"env": {"A\0": "b"}},
    {"labels": {"a": "b\0"}},
    {"entry": "x" * 100_000},
    {"abi": "\0"},
    {"known_answers": [{"first_item": HUGE, "result": "1"}]},
]
