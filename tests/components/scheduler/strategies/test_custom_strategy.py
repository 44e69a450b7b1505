"""A strategy that the owner brings, as docs/components/scheduler.md shows it."""

from pathlib import Path
from typing import Any

import pytest

from swarm_hub import bootstrap
from swarm_hub.components.scheduler import STRATEGY, Cut, JobView, NodeView
from swarm_hub.exceptions import ConfigError, HubError
from swarm_hub.models.node import Telemetry
from tests.conftest import Swarm
from tests.helpers.rest import call, finished, submit
from tests.helpers.sections import platforms
from tests.helpers.snippets import code_of

STEADY = code_of("docs/components/scheduler.md", "python")
BUILT_IN = ", ".join(sorted(platforms("scheduler")))
CHOSEN = code_of("docs/components/scheduler.md", "yaml")


def bring(folder: Path, code: str, name: str = "steady", domain: str = "scheduler") -> None:
    home = folder / "custom_components" / name
    home.mkdir(parents=True)
    (home / f"{domain}.py").write_text(code)


def problems(folder: Path, yaml: str) -> list[str]:
    (folder / "configuration.yaml").write_text(f"gateway:\n{yaml}\n")
    try:
        bootstrap.check(folder)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


async def test_a_job_is_cut_by_the_strategy_of_the_page(
    swarm: Swarm, tmp_path: Path, modules: dict[str, bytes]
) -> None:
    bring(tmp_path / "gateway", STEADY)
    gateway = await swarm.gateway(extra=CHOSEN)
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["count"], b"0:5000")
    assert (await finished(gateway, body["job_id"]))["result"] == 5000
    _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    first, *_, last = sorted(found["shards"], key=lambda shard: shard["index"])
    assert first["n_items"] == 5  # a thousandth, to be measured by
    assert last["n_items"] > 5


async def test_its_pieces_take_each_node_as_long(swarm: Swarm, tmp_path: Path) -> None:
    bring(tmp_path / "gateway", STEADY)
    gateway = await swarm.gateway(extra=CHOSEN)
    strategy = gateway.hub.services[STRATEGY]
    nodes = [
        NodeView(name, slots=1, load=0, room=room, telemetry=Telemetry(0.0), rate=rate)
        for name, room, rate in (("slow", 1, 10.0), ("new", 1, None), ("fast", 2, 80.0))
    ]
    job = JobView("job", n_items=9000, pool_items=9000, shard_size=None, max_items=9000)
    assert strategy.cut(job, nodes) == [
        Cut("fast", 160), Cut("fast", 160), Cut("slow", 20), Cut("new", 9)
    ]  # fmt: skip


def test_its_keys_are_checked_like_all_others(tmp_path: Path) -> None:
    bring(tmp_path, STEADY)
    assert problems(tmp_path, CHOSEN) == []
    assert problems(tmp_path, "scheduler: {platform: steady}") == []
    (problem,) = problems(tmp_path, "scheduler: {platform: steady, peice: 2s}")
    assert problem.endswith("scheduler → peice: unknown key; did you mean piece?")


def test_an_unknown_one_lists_the_owners_too(tmp_path: Path) -> None:
    bring(tmp_path, STEADY)
    bring(tmp_path, "", "patient", "sla")
    assert problems(tmp_path, "scheduler: {platform: stedy}") == [
        f"configuration.yaml:2: scheduler → platform: expected one of {BUILT_IN}, steady, "
        "got 'stedy'; did you mean steady?"
    ]
    (problem,) = problems(tmp_path, "scheduler: {platform: ../custom_components/steady}")
    assert "expected one of adaptive" in problem


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ndef cut(:\n", "scheduler.py:2: SyntaxError: invalid syntax"),
        ("\n\nx = nothing\n", "scheduler.py:3: NameError: name 'nothing' is not defined"),
        ("import json\n\njson.loads('[')\n", "scheduler.py:3: JSONDecodeError: Expecting value"),
        ("import nothing_such\n", "scheduler.py:1: ModuleNotFoundError: No module named"),
        ("\nraise SystemExit(3)\n", "scheduler.py:2: SystemExit: 3"),
        ("PLATFORM_SCHEMA = {}\n", "scheduler.py: has no create"),
        ("", "scheduler.py: has no PLATFORM_SCHEMA and no create"),
        ("PLATFORM_SCHEMA = create = 5\n", "scheduler.py: PLATFORM_SCHEMA must be a dictionary"),
    ],
)
def test_a_broken_one_is_named_with_file_and_line(tmp_path: Path, code: str, said: str) -> None:
    bring(tmp_path, code)
    (problem,) = problems(tmp_path, "scheduler:\n  platform: steady")
    place = "configuration.yaml:3: scheduler → platform: custom_components/steady/"
    assert problem.startswith(place + said), problem


async def test_one_that_can_not_be_made_is_named_with_file_and_line(
    swarm: Swarm, tmp_path: Path
) -> None:
    bring(tmp_path / "gateway", STEADY.replace("return Steady(piece)", "return Stedy(piece)"))
    with pytest.raises(HubError) as caught:
        await swarm.gateway(extra=CHOSEN)
    line = 1 + STEADY[: STEADY.index("return Steady(piece)")].count("\n")
    place = f"custom_components/steady/scheduler.py:{line}"
    assert f"scheduler: {place}: NameError: name 'Stedy' is not defined" in str(caught.value)


def test_code_that_is_not_chosen_is_not_run(tmp_path: Path) -> None:
    bring(tmp_path, "raise SystemExit(3)")
    assert problems(tmp_path, "scheduler: {platform: weighted}") == []


def test_a_built_in_name_can_not_be_taken(tmp_path: Path) -> None:
    bring(tmp_path, "raise SystemExit(3)", "weighted")
    assert problems(tmp_path, "scheduler: {platform: weighted}") == []


def test_a_deadline_rule_is_found_the_same_way(tmp_path: Path) -> None:
    code = "PLATFORM_SCHEMA = {}\n\n\ndef create():\n    return lambda expected_s, attempt: 60.0\n"
    bring(tmp_path, code, "patient", "sla")
    (tmp_path / "configuration.yaml").write_text("gateway:\nsla: {platform: patient}\n")
    _, planned = bootstrap.check(tmp_path)
    configs: dict[str, Any] = {each.manifest.domain: each.config for each in planned.components}
    assert configs["sla"].create()(None, 1) == 60.0
