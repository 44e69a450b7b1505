"""A client of several gateways goes on with the next, and waits for one that restarts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.client import (
    ApiError,
    AsyncSwarm,
    ClientError,
    Swarm,
    UnreachableError,
    async_swarm,
    gateways,
)
from swarm_hub.client.learning import learnt
from swarm_hub.client.reach import Reach
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR

# None breaks the connection, and ... leaves it open without a word.
Answer = tuple[int, dict[str, str], Any] | None | Any
WELL = (200, {}, {"ok": True, "state": "running"})
BUSY = {"code": "busy", "message": "try again"}


class Fake:
    """Answers like a hub, or not at all; notes the heads of requests."""

    def __init__(self, port: int, answer: Callable[[int], Answer]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.heads: list[str] = []
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            answer = self._answer(len(self.heads))
            if answer is ...:
                await reader.read()
            elif answer is not None:
                status, headers, content = answer
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                told = {"Content-Type": "application/json", **headers}
                lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
                    f"{lines}\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def sent(self, name: str) -> list[str]:
        """Return the values of a header in all requests, empty where it was not sent."""
        return [
            next((line.partition(": ")[2] for line in head.split("\r\n")
                  if line.lower().startswith(f"{name}: ")), "")
            for head in self.heads
        ]  # fmt: skip


@asynccontextmanager
async def fake(answer: Callable[[int], Answer], port: int | None = None) -> AsyncIterator[Fake]:
    """Serve answers: of the first request, of the second, …"""
    made = Fake(port or free_port(), answer)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", int(made.url.rpartition(":")[2]))
    try:
        yield made
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def nobody() -> str:
    """Return an address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


async def test_a_dead_one_is_left_for_the_next_which_is_asked_from_then_on() -> None:
    async with fake(lambda _: WELL) as alive, AsyncSwarm([nobody(), alive.url], "t") as swarm:
        for _ in range(3):
            assert (await swarm.health()).ok
        assert len(alive.heads) == 3
        assert set(alive.sent("authorization")) == {"Bearer t"}


async def test_a_frozen_one_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "_QUIET_OF_SEVERAL_S", 0.1)
    async with (
        fake(lambda _: ...) as frozen,
        fake(lambda _: WELL) as alive,
        AsyncSwarm([frozen.url, alive.url], "t") as swarm,
    ):
        assert (await swarm.health()).ok
        assert (await swarm.health()).ok
        assert (len(frozen.heads), len(alive.heads)) == (1, 2)


def test_with_several_a_dead_one_is_left_within_3_s_and_a_frozen_one_within_10() -> None:
    assert gateways._CONNECT_OF_SEVERAL_S < 3
    assert gateways._HOLD_OF_SEVERAL_S + gateways._QUIET_OF_SEVERAL_S < 10


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_what_a_proxy_says_for_it_is_as_if_it_were_away(status: int) -> None:
    refusal = (status, {"Content-Type": "text/html"}, b"<html>")
    async with (
        fake(lambda _: refusal) as away,
        fake(lambda _: WELL) as alive,
        AsyncSwarm([away.url, alive.url], "t") as swarm,
    ):
        assert (await swarm.health()).ok


async def test_one_that_can_not_serve_is_left_and_alone_says_so_at_once() -> None:
    refusal = (503, {}, {"code": "no_gateway", "message": "it needs gateway:"})
    async with (
        fake(lambda _: refusal) as unfit,
        fake(lambda _: (200, {}, {"nodes": []})) as fit,
    ):
        async with AsyncSwarm([unfit.url, fit.url], "t") as swarm:
            assert await swarm.nodes() == []
        async with AsyncSwarm(unfit.url, "t") as swarm:
            with pytest.raises(ApiError, match="it needs gateway:"):
                await swarm.nodes()
        assert len(unfit.heads) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_one_that_says_when_to_come_back_is_asked_again_then(status: int) -> None:
    def answer(number: int) -> Answer:
        return (status, {"Retry-After": "0"}, BUSY) if number < 3 else (200, {}, {"nodes": []})

    async with fake(answer) as hub, AsyncSwarm(hub.url, "t") as swarm:
        assert await swarm.nodes() == []
        assert len(hub.heads) == 3


async def test_one_that_says_so_for_longer_than_the_patience_is_told_at_once() -> None:
    refusal = (429, {"Retry-After": "60"}, BUSY)
    async with fake(lambda _: refusal) as hub, AsyncSwarm(hub.url, "t") as swarm:
        with pytest.raises(ApiError) as caught:
            await swarm.nodes()
        assert caught.value.retry_after_s == 60
        assert len(hub.heads) == 1


async def test_one_that_restarts_is_waited_for_once_it_has_answered() -> None:
    port = free_port()
    async with AsyncSwarm(f"127.0.0.1:{port}", "t") as swarm:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=f"no hub answers at http://127.0.0.1:{port};"):
            await swarm.health()
        assert time.monotonic() - began < gateways._CONNECT_S
        async with fake(lambda _: WELL, port):
            await swarm.health()
        asking = asyncio.create_task(swarm.health())
        await asyncio.sleep(0)
        async with fake(lambda _: WELL, port):
            assert (await asking).ok


async def test_when_all_are_away_each_is_named() -> None:
    first, second = nobody(), nobody()
    async with AsyncSwarm([first, second], "t") as swarm:
        with pytest.raises(UnreachableError, match=f"at any of http://{first}, http://{second};"):
            await swarm.health()


async def test_a_job_is_sent_again_under_the_same_key() -> None:
    taken = (202, {}, {"job_id": "01J", "status": "pending_scheduler", "links": {}})
    async with (
        fake(lambda _: None) as broken,
        fake(lambda _: taken) as alive,
        AsyncSwarm([broken.url, alive.url], "t") as swarm,
    ):
        assert await swarm.submit(b"(module)", b"x") == "01J"
        (first,), (second,) = broken.sent("idempotency-key"), alive.sent("idempotency-key")
        assert first == second != ""
        assert await swarm.submit(b"(module)", b"x") == "01J"
        assert await swarm.submit(b"(module)", b"x", idempotency_key="mine") == "01J"
        assert alive.sent("idempotency-key")[1:] == [alive.sent("idempotency-key")[1], "mine"]
        assert len(set(alive.sent("idempotency-key"))) == 3


async def test_an_invitation_that_may_have_been_made_is_not_asked_for_again() -> None:
    made = (201, {}, {"id": "1", "link": "swarmhub://join/1/x"})
    async with (
        fake(lambda _: None) as broken,
        fake(lambda _: made) as alive,
    ):
        async with AsyncSwarm([broken.url, alive.url], "t") as swarm:
            with pytest.raises(UnreachableError):
                await swarm.invite(60)
        assert alive.heads == []
        async with AsyncSwarm([nobody(), alive.url], "t") as swarm:
            assert (await swarm.invite(60)).id == "1"


async def test_a_token_that_is_missing_is_told_from_one_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWARM_HUB_CONFIG", str(tmp_path))
    refusal = (401, {}, {"code": "unauthorized", "message": "a token is needed"})
    async with fake(lambda _: refusal) as hub:
        async with AsyncSwarm(hub.url) as swarm:
            with pytest.raises(ApiError, match=r"wants a token.*swarm-hub token create NAME"):
                await swarm.nodes()
        async with AsyncSwarm(hub.url, "swh_old") as swarm:
            with pytest.raises(ApiError, match=r"may be revoked.*swarm-hub token create NAME"):
                await swarm.nodes()


async def test_what_is_no_hub_is_told() -> None:
    page = (200, {"Content-Type": "text/html"}, b"<html>It works!</html>")
    async with fake(lambda _: page) as other, AsyncSwarm(other.url, "t") as swarm:
        with pytest.raises(ClientError, match="what answers there is no hub: it sends text/html"):
            await swarm.nodes()


@pytest.mark.parametrize("kind", [AsyncSwarm, Swarm])
@pytest.mark.parametrize("url", ["", "ftp://kitchen", "a b", "kitchen:port", ["kitchen", "x y"]])
def test_a_wrong_address_is_one_clear_line(kind: type, url: Any) -> None:
    with pytest.raises(ClientError, match="expected http://HOST:PORT") as caught:
        kind(url, "t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        (["a", "b"], ["t"], "1 tokens were given for 2 addresses"),
        ([], "t", "no address"),
        ({"a": "t"}, "t", "give the tokens once"),
    ],
)
def test_tokens_and_addresses_belong_together(url: Any, token: Any, told: str) -> None:
    with pytest.raises(ClientError, match=told):
        AsyncSwarm(url, token)


@pytest.mark.parametrize("as_mapping", [True, False])
async def test_each_may_have_a_token_of_its_own(as_mapping: bool) -> None:
    refusal = (503, {}, {"code": "no_gateway", "message": "it needs gateway:"})
    async with (
        fake(lambda _: refusal) as first,
        fake(lambda _: (200, {}, {"nodes": []})) as second,
    ):
        tokens = {first.url: "one", second.url: "two"}
        given = (tokens,) if as_mapping else (list(tokens), list(tokens.values()))
        async with AsyncSwarm(*given) as swarm:  # type: ignore[arg-type]
            await swarm.nodes()
        assert (first.sent("authorization"), second.sent("authorization")) == (
            ["Bearer one"], ["Bearer two"]
        )  # fmt: skip


async def test_address_and_token_are_found_as_by_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SWARM_HUB_URL", "SWARM_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWARM_HUB_CONFIG", str(tmp_path))
    path = tmp_path / STORAGE_DIR / ADMIN_TOKEN_FILE
    path.parent.mkdir()
    path.write_text("swh_here\n")
    async with fake(lambda _: WELL) as hub:
        port = hub.url.rpartition(":")[2]
        (tmp_path / "configuration.yaml").write_text(f"gateway:\napi: {{port: {port}}}\n")
        async with AsyncSwarm() as swarm:
            await swarm.health()
        monkeypatch.setenv("SWARM_HUB_URL", f"{nobody()},{hub.url}")
        async with AsyncSwarm() as swarm:
            await swarm.health()
        monkeypatch.setenv("SWARM_HUB_TOKEN", "swh_said")
        async with AsyncSwarm() as swarm:
            await swarm.health()
        assert hub.sent("authorization") == [
            "Bearer swh_here", "Bearer swh_here", "Bearer swh_said"
        ]  # fmt: skip


def test_the_token_of_the_hub_here_is_shown_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SWARM_HUB_TOKEN", raising=False)
    monkeypatch.setenv("SWARM_HUB_CONFIG", str(tmp_path))
    path = tmp_path / STORAGE_DIR / ADMIN_TOKEN_FILE
    path.parent.mkdir()
    path.write_text("swh_here\n")

    def token_for(*urls: str) -> str | None:
        (first, *_) = async_swarm._gateways(list(urls), None)
        return first.token

    assert token_for("localhost") == token_for("unix:///x.sock") == "swh_here"
    assert token_for("kitchen") is None
    assert token_for("localhost", "kitchen") is None


def gateways_told(*others: Any) -> Answer:
    own = {"gateway_id": "own", "urls": [], "answers": True}
    told = [
        {"gateway_id": f"other {number}", "urls": [url] if isinstance(url, str) else url}
        for number, url in enumerate(others)
    ]
    return (200, {}, {"gateways": [own, *told]})


async def test_whoever_waits_learns_of_the_others_and_goes_on_there_when_the_first_dies() -> None:
    ended = (200, {}, {"job_id": "01J", "state": "completed", "status": "completed"})

    def first(number: int) -> Answer:
        return gateways_told(second.url) if number == 1 else None

    def answer(number: int) -> Answer:
        return gateways_told(once.url) if number == 2 else ended

    async with fake(answer) as second, fake(first) as once, AsyncSwarm(once.url, "t") as swarm:
        assert (await swarm.wait("01J")).ended
        assert [head.split()[1] for head in once.heads][:1] == ["/api/v1/gateways"]
        # There it is said once which token it has, and it stays there.
        assert set(second.sent("authorization")) == {"Bearer t"}
        n_before = len(once.heads)
        assert (await swarm.wait("01J")).ended
        assert len(once.heads) == n_before


@pytest.mark.parametrize(
    ("by", "told", "taken"),
    [
        ("https://a.example", ["http://10.0.0.2:8470"], []),
        ("https://a.example", ["https://10.0.0.2:8470"], ["https://10.0.0.2:8470"]),
        ("http://10.0.0.1:8470", ["http://10.0.0.2:8470"], ["http://10.0.0.2:8470"]),
        ("http://10.0.0.1:8470", ["http://127.0.0.1:1", "http://127.3.0.1", "http://[::1]:1"], []),
        ("http://10.0.0.1:8470", ["http://x.localhost", "http://0.0.0.0:1"], []),
        ("http://127.0.0.1:1", ["http://127.0.0.1:2"], ["http://127.0.0.1:2"]),
        ("http://127.0.0.1:1", ["http://10.0.0.2:8470"], []),
        ("unix:///run/api.sock", ["http://10.0.0.2:8470", "https://b"], ["https://b"]),
        ("http://10.0.0.1:1", ["ftp://b", "https://b#sha256=no", "https://u@b", 7, "x" * 9999], []),
        # The one that is in the same network.
        (
            "http://10.0.0.1:1",
            [["http://172.17.0.1:2", "http://10.0.0.9:2"]],
            ["http://10.0.0.9:2"],
        ),
        ("http://10.0.0.1:1", "many", [f"http://10.0.1.{n}:1" for n in range(15)]),
    ],
)
def test_a_token_follows_to_no_address_that_is_less_safe(
    by: str, told: Any, taken: list[str]
) -> None:
    told = [f"http://10.0.1.{n}:1" for n in range(99)] if told == "many" else told
    reach = Reach.parse(by)
    content = {
        "gateways": [
            {"gateway_id": f"{number}", "urls": each if isinstance(each, list) else [each]}
            for number, each in enumerate(told)
        ]
    }
    found = learnt(content, reach, {reach.base}, set())
    assert [each.url for each in found] == taken
    for odd in (None, [], {"gateways": 3}, {"gateways": [1, {"gateway_id": 5}, {}]}):
        assert list(learnt(odd, reach, set(), set())) == []


async def test_one_that_does_not_reach_its_store_is_left_and_asked_again_if_no_other_does() -> None:
    away = (503, {"Retry-After": "0"}, {"code": "store_away", "message": "away"})
    nodes = (200, {}, {"nodes": []})
    async with (
        fake(lambda _: away) as first,
        fake(lambda number: away if number < 3 else nodes) as second,
    ):
        async with AsyncSwarm([first.url, second.url], "t") as swarm:
            assert await swarm.nodes() == []
        assert (len(first.heads), len(second.heads)) == (3, 3)
