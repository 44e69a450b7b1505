"""Jobs and nodes are named by a beginning of their id, nodes also by their name."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ulid_transform import ulid_at_time

from swarm_hub.cli import selection
from swarm_hub.exceptions import HubError
from tests.conftest import Swarm, until, up_nodes
from tests.helpers.command_line import Done

Beside = Callable[..., Awaitable[Done]]


class Known:
    """A client that knows these."""

    def __init__(self, jobs: list[str] = [], nodes: list[tuple[str, str]] = []) -> None:  # noqa: B006
        self._jobs = jobs
        self._nodes = nodes
        self.asked: list[Any] = []

    async def jobs(self, limit: int, wanted: dict[str, str]) -> list[dict[str, str]]:
        self.asked.append(wanted)
        at = "2026-01-01T00:00:00+00:00"
        return [{"job_id": each, "state": "running", "created_at": at} for each in self._jobs]

    async def nodes(self) -> list[dict[str, str]]:
        return [{"node_id": id_, "name": name, "state": "up"} for id_, name in self._nodes]


JOBS = [ulid_at_time(1_700_000_000 + number * 1000) for number in range(30)]


async def test_a_job_is_found_by_the_beginning_of_its_id_in_any_case() -> None:
    known: Any = Known(JOBS)
    assert await selection.the_job(known, JOBS[3][:9].lower()) == JOBS[3]
    assert known.asked == [{"text": JOBS[3][:9]}]
    # A whole id costs no request, and the hub itself says what became of it.
    assert await selection.the_job(known, "0" * 26) == "0" * 26
    assert len(known.asked) == 1


async def test_several_jobs_are_listed_to_choose_from() -> None:
    known: Any = Known(JOBS)
    with pytest.raises(HubError) as caught:
        await selection.the_job(known, JOBS[0][:3])
    first, *lines, last = str(caught.value).splitlines()
    assert first == (
        f"30 jobs have ids that begin with {JOBS[0][:3]}; give more of the id of the one you mean:"
    )
    assert [line.split()[0] for line in lines] == JOBS[:10]
    assert last == "  and 20 more"
    for nothing in ("", "   ", "NONE"):
        with pytest.raises(HubError, match="there is no job"):
            await selection.the_job(known, nothing)


async def test_a_node_is_found_by_name_id_and_beginning() -> None:
    nodes = [("12D3KooWAb1", "kitchen"), ("12D3KooWAb2", "cellar"), ("12D3KooWCd3", "cellar")]
    known: Any = Known(nodes=[*nodes, ("12D3KooWEf4", "12D3KooWCd3")])
    for text, node_id in (
        ("kitchen", "12D3KooWAb1"),
        ("12D3KooWAb2", "12D3KooWAb2"),
        ("12D3KooWE", "12D3KooWEf4"),
        # Nobody hides a node by taking its id for a name.
        ("12D3KooWCd3", "12D3KooWCd3"),
    ):
        assert (await selection.the_node(known, text))["node_id"] == node_id
    for text, said in (
        ("cellar", "cellar can be any of 2 nodes; give more"),
        ("12D3KooWA", "12D3KooWA can be any of 2 nodes"),
        ("attic", "there is no node attic; see: swarm-hub node list"),
        ("kichen", "there is no node kichen; did you mean kitchen?"),
        ("", "there is no node "),
    ):
        with pytest.raises(HubError, match=said):
            await selection.the_node(known, text)


async def test_a_node_is_drained_banned_and_shown_by_its_name(
    swarm: Swarm, run_beside: Beside, gateway_with_workers: Callable[..., Any]
) -> None:
    client = await gateway_with_workers(2)
    hub = client._hub.of(0)
    here = {"SWARM_HUB_URL": hub.reach.url, "SWARM_HUB_TOKEN": hub.token}
    (first, second) = sorted(await client.nodes(), key=lambda node: node["name"])
    short = second["node_id"][:16]
    done = await run_beside("node", "drain", "worker-1", **here)
    assert done.err == f"worker-1 ({short}) gets no more work and is drained\n"
    shown = await run_beside("node", "show", second["node_id"][:14], "--json", **here)
    assert json.loads(shown.out)["state"] == "drained"
    done = await run_beside("node", "undrain", short, **here)
    assert done.err == f"worker-1 ({short}) gets work again\n"
    ambiguous = await run_beside("node", "drain", "12D3", **here)
    assert (ambiguous.code, ambiguous.err.count("\n  12D3KooW")) == (1, 2)
    assert (await run_beside("node", "ban", "worker-0", **here)).code == 0
    await until(lambda: up_nodes(client), lambda count: count == 1)
    banned = {each["node_id"] for each in await client.nodes() if each["ban_reason"]}
    assert banned == {first["node_id"]}
    lifted = await run_beside("node", "unban", "worker-0", "--json", **here)
    assert (lifted.code, json.loads(lifted.out)["name"]) == (0, "worker-0")
