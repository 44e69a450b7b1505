"""One request: to the address that was judged, without redirects, with a bounded answer."""

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import web

from swarm_hub.components.automation import webhook
from swarm_hub.components.automation.webhook import TryAgain
from swarm_hub.exceptions import HubError
from tests.components.automation.receiver import receiver


def content(port: int, **more: Any) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{port}/a b?c=ü", "method": "POST", "body": "{}", **more}


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (lambda: web.Response(status=302, headers={"Location": "/x"}), HubError, "redirects are"),
        (lambda: web.Response(status=400, text="no\x1b[1m"), HubError, r"400: no\\x1b"),
        (lambda: web.Response(status=500), TryAgain, "answered 500"),
        (lambda: web.Response(status=429), TryAgain, "answered 429"),
    ],
)
async def test_an_answer_that_is_no_success_is_told(answer: Any, kind: type, said: str) -> None:
    async with receiver() as server:
        server.answer = answer
        with pytest.raises(HubError, match=said) as caught:
            await webhook.call(content(server.port), ["127.0.0.1"], "key")
        assert type(caught.value) is kind
        assert server.got == [("key", "/a%20b?c=%C3%BC", "{}")]


async def test_a_large_answer_is_not_read_to_its_end() -> None:
    async with receiver() as server:
        server.answer = lambda: web.Response(body=b"x" * 50_000_000)
        said = await webhook.call(content(server.port), ["127.0.0.1"], "key")
        assert said == "127.0.0.1 answered 200"


async def test_a_private_address_behind_an_allowed_name_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with receiver() as server:
        url = f"http://localhost:{server.port}/"
        with pytest.raises(HubError, match=r"is (127.0.0.1|::1), a private address"):
            await webhook.call(content(0, url=url), ["localhost"], "key")
        said = await webhook.call(content(0, url=url), ["localhost", "127.0.0.1"], "key")
        assert said == "localhost answered 200"
        assert len(server.got) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "http://other.example/"}, "other.example:80 is not among the allowed"),
        ({"url": "http://127.0.0.1:1\r\nX: y/"}, "not among|expected|can't be reached|Port"),
        ({"url": f"http://127.0.0.1/{'x' * 9000}"}, "more than 8192 characters"),
        ({"headers": {"A": "b\r\nHost: evil"}}, "a character that headers can't have"),
    ],
)
async def test_what_a_template_may_have_made_is_looked_at_again(more: Any, said: str) -> None:
    async with receiver() as server:
        with pytest.raises(HubError, match=said):
            await webhook.call(content(server.port, **more), ["127.0.0.1"], "key")
        assert server.got == []


async def test_a_server_that_is_not_there_or_says_nothing_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook, "WITHIN_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TryAgain, match="did not answer"):
            await webhook.call(content(port), ["127.0.0.1"], "key")
    with pytest.raises(TryAgain, match="can't be reached"):
        await webhook.call(content(port), ["127.0.0.1"], "key")


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 99_999]
)
async def test_what_is_no_http_is_told(said: bytes) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TryAgain, match="can't be reached"):
            await webhook.call(content(port), ["127.0.0.1"], "key")
