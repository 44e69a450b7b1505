"""What a hub says of components that are not its own, and how it does without them."""

import json
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub import bootstrap
from swarm_hub.cli import main
from swarm_hub.components.scheduler import STRATEGY
from swarm_hub.exceptions import ConfigError
from tests.conftest import Swarm
from tests.helpers.command_line import Done
from tests.helpers.rest import call

COMPONENT = """\
from swarm_hub.exceptions import SetupError
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({cv.Key("works", default=True, reloadable=False): cv.boolean}, dict)


async def async_setup(hub, config):
    if not config["works"]:
        raise SetupError("no power")
    return True
"""
STRATEGY_CODE = """\
PLATFORM_SCHEMA = {}


class Nothing:
    def cut(self, job, nodes):
        return []


def create():
    return Nothing()
"""


def custom(folder: Path, domain: str, **manifest: object) -> Path:
    home = folder / "custom_components" / domain
    home.mkdir(parents=True)
    content = {"domain": domain, "name": domain, "documentation": "README.md", "version": "1.2.0"}
    (home / "manifest.json").write_text(json.dumps({**content, **manifest}, indent=2))
    (home / "__init__.py").write_text(COMPONENT)
    return home


def strategy(folder: Path) -> None:
    home = folder / "custom_components" / "careful"
    home.mkdir(parents=True)
    (home / "scheduler.py").write_text(STRATEGY_CODE)


async def test_each_is_told_in_the_log_and_in_the_health(
    tmp_path: Path, swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "gateway"
    custom(folder, "heater")
    custom(folder, "cooler")
    strategy(folder)
    gateway = await swarm.gateway(
        extra="heater:\ncooler: {works: false}\nscheduler: {platform: careful}\n"
    )
    lines = [each.getMessage() for each in caplog.records if "Custom" in each.getMessage()]
    where = f"{folder}/custom_components"
    assert sorted(lines) == [
        f"Custom component cooler 1.2.0 of {where}/cooler: whoever wrote it answers for it",
        f"Custom component heater 1.2.0 of {where}/heater: whoever wrote it answers for it",
        f"Custom platform careful of scheduler, {where}/careful/scheduler.py: "
        "whoever wrote it answers for it",
    ]
    _, health = await call(gateway, "GET", "/health")
    assert "safe_mode" not in health
    own = {"overrides": False, "state": "running", "message": None}
    assert sorted(health["custom_components"], key=lambda each: str(each["name"])) == [
        {**own, "name": "careful", "version": None, "platform_of": "scheduler"},
        {
            "name": "cooler", "version": "1.2.0", "platform_of": None, "overrides": False,
            "state": "failed", "message": "no power",
        },
        {**own, "name": "heater", "version": "1.2.0", "platform_of": None},
    ]  # fmt: skip


async def test_a_hub_without_any_says_nothing_of_it(swarm: Swarm) -> None:
    _, health = await call(await swarm.gateway(), "GET", "/health")
    assert "custom_components" not in health


async def test_safe_mode_starts_without_them(tmp_path: Path) -> None:
    custom(tmp_path, "heater")
    custom(tmp_path, "sla", overrides=True)
    strategy(tmp_path)
    (tmp_path / "configuration.yaml").write_text(
        "gateway:\nmesh: {transport: loopback}\napi: {port: 0}\n"
        "heater: {works: false, more: 1}\nsla: {works: true}\n"
        "scheduler: {platform: careful, unproven_share: 0.25}\n"
    )
    (tmp_path / ".storage").mkdir(mode=0o700)
    hub = await bootstrap.start_hub(tmp_path, safe_mode=True)
    try:
        assert "heater" not in hub.components
        assert type(hub.services[STRATEGY]).__name__ == "Adaptive"
        assert hub.endpoints.health()["safe_mode"] is True
        assert "custom_components" not in hub.endpoints.health()
    finally:
        await hub.stop()
    _, planned = bootstrap.check(tmp_path, safe_mode=True)
    assert planned.left_out == ("heater", "sla", "careful (scheduler)")
    found = {each.manifest.domain: each.config for each in planned.components}
    assert found["scheduler"].options == {"unproven_share": 0.25}  # type: ignore[attr-defined]


def test_run_does_so_and_says_it(tmp_path: Path) -> None:
    home = custom(tmp_path, "heater")
    (home / "__init__.py").write_text("import nowhere\n")
    (tmp_path / "configuration.yaml").write_text(
        "gateway:\nmesh: {transport: loopback}\napi: {port: 0}\nheater:\n"
    )
    command = [sys.executable, "-m", "swarm_hub", "run", "-c", str(tmp_path), "--json"]
    with subprocess.Popen(
        [*command, "--safe-mode"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as hub:
        assert hub.stdout is not None
        assert json.loads(hub.stdout.readline())["ready"] is True
        hub.terminate()
        _, said = hub.communicate(timeout=90)
    assert hub.returncode == 0
    assert "Safe mode: started without heater" in said


def check(folder: Path, *options: str) -> Done:
    arguments = ["check", "-c", str(folder), *options]
    done = CliRunner().invoke(main, arguments, standalone_mode=False)
    return Done(done.return_value or 0, done.stdout, done.stderr)


def test_check_does_so_too(tmp_path: Path) -> None:
    home = custom(tmp_path, "heater")
    (home / "__init__.py").write_text("import nowhere\n")
    (tmp_path / "configuration.yaml").write_text("worker:\nheater:\n")
    assert check(tmp_path).code == 1
    done = check(tmp_path, "--safe-mode")
    assert (done.code, "heater" in done.err) == (0, False), done.err


def unmet(folder: Path, *requirements: str) -> list[str]:
    custom(folder, "heater", requirements=list(requirements))
    (folder / "configuration.yaml").write_text("worker:\nheater:\n")
    try:
        bootstrap.check(folder)
    except ConfigError as error:
        return [str(each) for each in error.problems]
    return []


def test_what_one_needs_and_is_not_there_is_told_with_its_line_and_the_command(
    tmp_path: Path,
) -> None:
    found = unmet(tmp_path, "click>=8", "swarm-hub-nothing>=2", "voluptuous<0.1", "a b")
    manifest = "custom_components/heater/manifest.json"
    pip, there = f"{sys.executable} -m pip install", version("voluptuous")
    assert found[:2] == [
        f"{manifest}:8: heater: needs swarm-hub-nothing>=2, which is not installed: {pip} "
        "'swarm-hub-nothing>=2'",
        f"{manifest}:9: heater: needs voluptuous<0.1, and {there} is installed: {pip} "
        "'voluptuous<0.1'",
    ]
    assert found[2].startswith(f"{manifest}:10: heater: requirements: 'a b' can't be read (")
    done = CliRunner().invoke(main, ["doctor", "-c", str(tmp_path)], standalone_mode=False)
    assert "needs swarm-hub-nothing>=2, which is not installed" in done.output


def test_what_is_there_or_is_not_needed_on_this_system_is_no_problem(tmp_path: Path) -> None:
    assert unmet(tmp_path, "click>=8,<100", "nothing; sys_platform == 'win32'") == []


def test_without_the_library_that_reads_versions_names_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (found,) = unmet(
        tmp_path, "click>=800", "swarm-hub-nothing>=2", "nothing; python_version < '3'"
    )
    assert "needs swarm-hub-nothing>=2, which is not installed" in found
