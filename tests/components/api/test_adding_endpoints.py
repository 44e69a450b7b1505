"""Views and commands that a component brings, as docs/components/api.md shows it."""

import json
import time
from pathlib import Path

import aiohttp
import pytest

from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, live
from tests.helpers.snippets import code_of

GREETER = code_of("docs/components/api.md", "python")
MANIFEST = {
    "domain": "greeter",
    "name": "Greeter",
    "documentation": "none",
    "version": "1",
    "serves": ["/greetings"],
}


def bring(folder: Path, code: str = GREETER) -> None:
    home = folder / "custom_components" / "greeter"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text(code)
    (home / "manifest.json").write_text(json.dumps(MANIFEST))


@pytest.fixture
async def hub(swarm: Swarm, tmp_path: Path) -> RunningHub:
    bring(tmp_path / "gateway")
    return await swarm.gateway(extra="greeter:\n")


def token(hub: RunningHub, scope: str) -> str:
    return TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE).create(scope, scope, time.time())[1]


async def test_a_view_of_a_component_is_served(hub: RunningHub) -> None:
    answer = {"text": "Hello, Ada!", "times": 1}
    assert await call(hub, "POST", "/greetings/Ada") == (200, answer)
    status, body = await call(hub, "POST", "/greetings/Ada?times=2", data='{"words": "Hi"}')
    assert (status, body) == (200, {"text": "Hi, Ada!Hi, Ada!", "times": 2})


async def test_its_query_and_its_body_are_checked_before_it_runs(hub: RunningHub) -> None:
    status, body = await call(hub, "POST", "/greetings/Ada?times=10")
    assert (status, body["code"]) == (400, "invalid_query")
    assert body["message"] == "times: expected a whole number from 1 to 9"
    for content, status, said in [
        ('{"words": 5}', 422, "words: expected a text of at most 20 characters"),
        ('{"wrods": "Hi"}', 422, "wrods: unknown key; did you mean words?"),
        ("[]", 422, "request: expected a JSON object"),
    ]:
        found, body = await call(hub, "POST", "/greetings/Ada", data=content)
        assert (found, body["message"]) == (status, said)


async def test_its_scope_holds(hub: RunningHub) -> None:
    assert (await call(hub, "POST", "/greetings/Ada", token=None))[0] == 401
    status, body = await call(hub, "POST", "/greetings/Ada", token=token(hub, "read"))
    assert (status, body["code"]) == (403, "wrong_scope")
    assert (await call(hub, "POST", "/greetings/Ada", token=token(hub, "submit")))[0] == 200


async def test_a_public_view_needs_no_token_and_may_stand_outside_the_api(
    swarm: Swarm, tmp_path: Path
) -> None:
    code = GREETER.replace("Scope.SUBMIT, Greeting", "Scope.PUBLIC, Greeting").replace(
        "times, body)", "times, body, outside=True)"
    )
    bring(tmp_path / "gateway", code)
    hub = await swarm.gateway(extra="greeter:\n")
    async with aiohttp.ClientSession() as session:
        url = f"{hub.url}/greetings/Ada"
        async with session.post(url) as response:
            assert (response.status, (await response.json())["times"]) == (200, 1)
        foreign = {"Origin": "https://evil.example"}
        async with session.post(url, headers=foreign) as response:
            assert (response.status, (await response.json())["code"]) == (403, "foreign_origin")
    assert (await call(hub, "POST", "/greetings/Ada"))[0] == 404


async def test_a_command_of_a_component_is_answered(hub: RunningHub) -> None:
    await call(hub, "POST", "/greetings/Ada?times=3")
    async with live(hub) as client:
        assert (await client.command("greetings/times", name="Ada"))["result"] == {
            "text": "Ada",
            "times": 3,
        }
        for asked, code in [
            ({"name": "Bob"}, "not_greeted"),
            ({"name": 5}, "invalid_format"),
            ({}, "invalid_format"),
            ({"name": "Ada", "nmae": 1}, "invalid_format"),
        ]:
            answer = await client.command("greetings/times", **asked)
            assert (answer["success"], answer["error"]["code"]) == (False, code)


async def test_a_command_may_be_a_subscription(hub: RunningHub) -> None:
    async with live(hub) as client:
        answer = await client.command("greetings/listen")
        assert answer["success"]
        first = answer["id"]
        await call(hub, "POST", "/greetings/Ada")
        event = await client.receive()
        assert (event["id"], event["type"], event["event"]) == (first, "event", {"name": "Ada"})
        assert (await client.command("unsubscribe_events", subscription=first))["success"]
        await call(hub, "POST", "/greetings/Bob")
        answer = await client.command("unsubscribe_events", subscription=first)
        assert answer["error"]["code"] == "not_found"


async def test_a_subscription_ends_with_its_client(swarm: Swarm, tmp_path: Path) -> None:
    ended = '(hub.config_dir / "ended").touch'
    code = GREETER.replace("lambda: self.listeners.pop(id(call))", ended).replace(
        "greeter = Greeter()", "globals().update(hub=hub); greeter = Greeter()"
    )
    bring(tmp_path / "gateway", code)
    hub = await swarm.gateway(extra="greeter:\n")
    async with live(hub) as client:
        await client.command("greetings/listen")
        assert not (hub.folder / "ended").exists()
    await hub.hub.stop()
    assert (hub.folder / "ended").exists()


async def test_a_handler_that_fails_ends_its_request_only(swarm: Swarm, tmp_path: Path) -> None:
    bring(
        tmp_path / "gateway",
        GREETER.replace("self.greeted[name]", "self.nothing[name]").replace("not in", "in"),
    )
    hub = await swarm.gateway(extra="greeter:\n")
    status, body = await call(hub, "POST", "/greetings/Ada")
    assert (status, body["code"]) == (500, "internal")
    assert "nothing" not in body["message"]
    async with live(hub) as client:
        answer = await client.command("greetings/times", name="Ada")
        assert answer["error"]["code"] == "internal"
        assert (await client.command("ping"))["type"] == "pong"
    assert (await call(hub, "GET", "/health"))[0] == 200


async def test_a_hub_without_the_component_says_what_it_lacks(swarm: Swarm, tmp_path: Path) -> None:
    bring(tmp_path / "gateway")
    hub = await swarm.gateway()
    status, body = await call(hub, "POST", "/greetings/Ada")
    assert (status, body["code"]) == (503, "no_greeter")
    assert "add greeter:" in body["message"]
    assert (await call(hub, "POST", "/greetings/Ada", token=None))[0] == 401
    assert (await call(hub, "POST", "/greetingsx"))[0] == 404


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("Scope.SUBMIT, Greeting", "None, Greeting", "it has no scope; give it one of Scope."),
        ("Scope.SUBMIT, Greeting", "Scope.SUBMIT, None", "does not say what it answers"),
        ("Scope.READ, name, Greeting", "params=name, result=Greeting", "it has no scope"),
        ("Scope.READ, name, Greeting", "Scope.READ", "does not say what it takes"),
        ("Scope.READ, name", "Scope.PUBLIC, name", "it has no scope"),
        ('"POST", "/greetings', '"LOOK", "/greetings', "its method must be one of"),
        ('"/greetings/{name}"', '"greetings"', "its path must be such as"),
        ('"/greetings/{name}"', '"/nodes/{name}/ban"', "such a view already"),
        ('"greetings/listen"', '"greetings/times"', "such a command already"),
        ('"greetings/listen"', '"Greetings!"', "its name must be such as"),
    ],
)
async def test_what_lacks_scope_or_schema_is_refused_at_start(
    swarm: Swarm,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    right: str,
    wrong: str,
    said: str,
) -> None:
    assert right in GREETER
    bring(tmp_path / "gateway", GREETER.replace(right, wrong))
    hub = await swarm.gateway(extra="greeter:\n")
    assert said in caplog.text
    assert (await call(hub, "GET", "/health"))[0] == 200


async def test_nothing_is_registered_once_the_hub_has_started(hub: RunningHub) -> None:
    view = hub.hub.endpoints.views[0]
    with pytest.raises(Exception, match="register it in async_setup"):
        hub.hub.endpoints.add_view(view)
