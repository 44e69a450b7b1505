"""Messages of the websocket made from what the hub declares, and pure noise: each is answered."""

import json
import random
from typing import Any

from swarm_hub.components.api.live import messages
from swarm_hub.endpoints import Endpoints
from tests.conftest import RunningHub, Swarm
from tests.helpers.hostile_values import HUGE
from tests.helpers.rest import Live, call, live

SEED = 20_261_130
ROUNDS = 12
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, HUGE, -HUGE, 2**63, 1.5, "", "x", "a\0b", "x" * 5000, "\x1b[2J",
    [], {}, [[]], ["job_queued"], ["job_queued"] * 100, [1], {"a": 1}, {"team": "blue"},
    {"x" * 999: "y"}, "job_queued", "telemetry", "1h", {"coalesce_messages": 1},
    {str(n): n for n in range(100)},
]  # fmt: skip
NOISE = [
    "", "{", "[]", "[[]]", "null", "5", '"x"', "{}", '{"id": 1e999}', '{"id": NaN}', "[" * 30_000,
    '{"id":' * 300, '{"id": "1", "type": "ping"}', '{"id": 1, "id": 2}', '{"type": ["ping"]}',
    '{"id": 1, "type": "\\ud800"}', "\x00", "x" * 60_000, '[{"id": -5}, null, 7]',
]  # fmt: skip


def kinds(endpoints: Endpoints) -> dict[str, list[str]]:
    """Return the fields of each command there is."""
    found = {
        "ping": [], "unsubscribe_events": ["subscription"], "supported_features": ["features"],
        "subscribe_events": [
            str(key) for key in messages.subscribe_schema(endpoints.event_types).schema
        ],
    }  # fmt: skip
    for command in endpoints.commands:
        assert command.params is not None
        found[command.name] = [str(key) for key in command.params]
    return found


def hostile(draw: random.Random, number: int, kind: str, fields: list[str]) -> dict[str, Any]:
    """Return a command with hostile fields."""
    given = {name: draw.choice(VALUES) for name in fields if draw.random() < 0.7}
    if draw.random() < 0.1:
        given[draw.choice(["x", "foo", "evnt_type", "id ", "__class__"])] = draw.choice(VALUES)
    return {"id": number, "type": kind, **given}


async def answered(client: Live, number: int) -> dict[str, Any]:
    """Return the answer to a command; what else comes are events of subscriptions."""
    while True:
        message: dict[str, Any] = await client.receive()
        if message["type"] != "event" and message["id"] == number:
            return message


async def well(gateway: RunningHub) -> None:
    code, health = await call(gateway, "GET", "/health")
    assert (code, health["ok"]) == (200, True)


async def test_hostile_commands_are_answered_and_never_by_an_unexpected_error(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    draw = random.Random(SEED)
    declared = kinds(gateway.hub.endpoints)
    assert len(declared) > 15
    async with live(gateway) as client:
        number = 0
        for kind, fields in declared.items():
            for _ in range(ROUNDS):
                number += 1
                sent = hostile(draw, number, kind, fields)
                await client.socket.send_json(sent)
                answer = await answered(client, number)
                if not answer.get("success", True):
                    assert answer["error"]["code"] not in ("internal", "failed"), (sent, answer)
                    assert len(answer["error"]["message"]) < 2000, sent
    await well(gateway)


async def test_noise_is_answered_and_the_connection_stays(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    draw = random.Random(SEED)
    async with live(gateway) as client:
        number = 100
        for noise in NOISE + [mangled(draw) for _ in range(200)]:
            number += 1
            await client.socket.send_str(noise)
            await client.socket.send_json({"id": 1000 * number, "type": "ping"})
            assert (await answered(client, 1000 * number))["type"] == "pong"
    await well(gateway)


def mangled(draw: random.Random) -> str:
    """Return a command with a few characters changed."""
    text = list(json.dumps({"id": 1, "type": "subscribe_events", "label": {"a": "b"}, "since": 0}))
    for _ in range(draw.randint(1, 4)):
        text[draw.randrange(len(text))] = draw.choice('{}[]",:0\\x\x00é')
    return "".join(text)
