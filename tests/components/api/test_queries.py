"""Queries: a name that a view does not know, or that is there twice, is refused."""

from urllib.parse import quote

import pytest

from tests.conftest import Swarm
from tests.helpers.rest import call


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("/jobs?limt=5", "limt", "limt: unknown key; known keys: "),
        (
            "/jobs/x/receipts?limit=5&cursor=x&state=y&a=b",
            "a",
            "a: unknown key; known keys: node, cursor, limit",
        ),
        ("/nodes?x=", "x", "x: unknown key; known keys: none"),
        ("/jobs/x/story?since=1", "since", "since: unknown key; known keys: after, limit"),
        ("/jobs?limit=5&limit=6", "limit", "limit: is there more than once"),
        ("/nodes?x=1&x=2", "x", "x: is there more than once"),
        # An unknown name counts before an odd value.
        ("/jobs?limit=many&limt=5", "limt", "limt: unknown key"),
    ],
)
async def test_a_query_of_unknown_or_repeated_names_is_422(
    swarm: Swarm, path: str, name: str, said: str
) -> None:
    gateway = await swarm.gateway()
    code, body = await call(gateway, "GET", path)
    assert (code, body["code"]) == (422, "invalid_query")
    assert name in [each["path"] for each in body["errors"]]
    assert any(said in each["message"] for each in body["errors"])
    assert body["message"] == body["errors"][0]["message"]


async def test_of_many_unknown_names_some_are_told(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    query = "&".join(f"key{number}=1" for number in range(100))
    code, body = await call(gateway, "GET", f"/jobs?{query}")
    assert code == 422
    assert 1 < len(body["errors"]) < 100


async def test_a_name_that_is_no_text_is_400(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for name in ("a\0b", "x" * 5000):
        code, body = await call(gateway, "GET", f"/jobs?{quote(name)}=1")
        assert (code, body["code"]) == (400, "invalid_query")


@pytest.mark.parametrize("cursor", ["-1", "-0", "1.5", "one", "", "٣", "9" * 30])
async def test_an_odd_cursor_says_what_it_should_be(swarm: Swarm, cursor: str) -> None:
    gateway = await swarm.gateway()
    code, body = await call(gateway, "GET", f"/jobs/x/failures?cursor={quote(cursor)}")
    assert (code, body["code"]) == (400, "invalid_query")
    assert body["message"].startswith("cursor: expected a whole number from 0 to ")
    assert body["errors"] == [{"path": "cursor", "message": body["message"]}]
