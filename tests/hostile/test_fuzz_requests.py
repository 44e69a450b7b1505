"""Requests and configurations generated from what the hub declares: no 5xx, no stray exception."""

import asyncio
import importlib
import json
import random
import re
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import voluptuous as vol
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from swarm_hub import bootstrap
from swarm_hub.endpoints import View
from swarm_hub.exceptions import ConfigError
from tests.conftest import Swarm
from tests.helpers.hostile_values import HOSTILE, HUGE, VALUES
from tests.helpers.rest import call

SEED = 20_261_129
TEXTS = ["", "x", "a\0b", "\ud800", "x" * 5000, "..", "%", "9" * 400, "-1", "1e999", "\x1b[2J", "ä"]
PLAIN = [
    None, True, 0, -1, HUGE, -HUGE, 2**63, 2**64, 1.7e308, "", "a\0b", "x" * 5000, [], {}, [[]],
    {"a": 1}, "NaN", "\x1b[2J",
]  # fmt: skip


def keys_of(schema: vol.Schema | None) -> list[str]:
    return [] if schema is None else [str(key) for key in schema.schema]


async def ask(hub: Any, view: View, random_: random.Random) -> tuple[int, Any, str]:
    """Send one hostile request to a view; returns its status, its answer and what was sent."""
    path = re.sub(
        r"\{[^}]*\}",
        lambda _: quote(random_.choice(TEXTS).encode("utf-8", "surrogatepass"), safe=""),
        view.path,
    )
    query = {str(name): random_.choice(TEXTS) for name in view.query if random_.random() < 0.7}
    pairs = "&".join(
        f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query.items()
    )
    body = b""
    if isinstance(view.body, vol.Schema):
        fields = {
            name: random_.choice(PLAIN) for name in keys_of(view.body) if random_.random() < 0.8
        }
        body = json.dumps(fields).encode()
    elif view.body is not None:
        body = bytes(random_.randrange(256) for _ in range(random_.randrange(200)))
    media_type = random_.choice(
        [
            "application/json",
            "multipart/form-data; boundary=b",
            "multipart/form-data",
            "nonsense",
            "",
        ]
    )
    url = URL(f"{hub.url}/api/v1{path}?{pairs}", encoded=True)
    headers = {"Authorization": f"Bearer {hub.token}", "Content-Type": media_type}
    async with (
        aiohttp.ClientSession() as session,
        session.request(view.method, url, data=body, headers=headers) as response,
    ):
        return response.status, await response.read(), f"{view} {path} {pairs} {body[:200]!r}"


async def test_no_request_made_from_the_declared_views_is_5xx(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    views = [view for view in gateway.hub.endpoints.views if not view.outside]
    assert len(views) > 15
    random_ = random.Random(SEED)
    for view in views:
        for _ in range(5):
            async with asyncio.timeout(60):
                status, answer, sent = await ask(gateway, view, random_)
            # 503 is what a hub says of a component that it does not run.
            assert status < 500 or b'"no_' in answer, (status, answer, sent)
    code, health = await call(gateway, "GET", "/health")
    assert (code, health["ok"]) == (200, True)


@pytest.mark.parametrize("domain", ["api", "gateway", "mesh", "sandbox", "signer", "worker"])
def test_a_generated_section_is_refused_in_words_or_accepted(domain: str) -> None:
    schema = importlib.import_module(f"swarm_hub.components.{domain}").CONFIG_SCHEMA
    keys = [str(key) for key in schema.schema.schema]
    names = st.sampled_from([*keys, "nothing"]) if keys else st.text(max_size=5)

    @HOSTILE
    @given(st.dictionaries(names, VALUES, max_size=4))
    def check(section: dict[str, Any]) -> None:
        try:
            schema(section)
        except vol.Invalid as error:
            errors = error.errors if isinstance(error, vol.MultipleInvalid) else [error]
            for each in errors:
                assert len(each.msg) < 1000

    check()


@pytest.mark.parametrize(
    "yaml",
    [
        "hub: {name: !!binary AAAA}\n", "hub: 1\n", "sandbox: {memory: 0x" + "f" * 5000 + "}\n",
        "api: {port: 1" + "0" * 5000 + "}\n", "sandbox: {wall_time: .inf}\n",
        "sandbox: {wall_time: .nan}\n", "worker: {min_battery: 1" + "0" * 400 + "}\n",
        "gateway: {dataset: '" + "9" * 400 + "GiB'}\n", "hub: {name: \"a\\0b\"}\n",
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_hostile_value_in_the_configuration_is_named_with_its_line(
    tmp_path: Any, yaml: str
) -> None:
    text = yaml if "worker" in yaml else f"worker:\n{yaml}"
    (tmp_path / "configuration.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(tmp_path)
    assert all(problem.line is not None for problem in caught.value.problems)
    assert len(str(caught.value)) < 2000
