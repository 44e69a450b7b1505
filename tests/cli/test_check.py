"""`check` tells every value with its place, every file, and what each component costs."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from swarm_hub import bootstrap, runner
from swarm_hub.cli import main
from swarm_hub.util.redaction import REDACTED

GATEWAY = "gateway:\nmesh: {transport: loopback, mdns: false, bulk: false}\n"
FILES = {
    "configuration.yaml": """\
hub:
  name: kitchen
  packages: !include_dir_named packages
storage:
  backup:
    directory: !env_var SWARM_HUB_TEST_BACKUPS saved
gateway:
  jobs: 5
mesh: {transport: loopback, bulk: false}
scheduler: {platform: weighted}
signer:
  ttl: !secret ttl
""",
    "packages/night.yaml": "worker:\n  node_labels: {room: '31', api_key: xyzw}\n"
    "sandbox:\n  memory: 64MiB\n",
    "secrets.yaml": "ttl: 31\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def check(folder: Path, *options: str) -> str:
    arguments = ["check", "-c", str(folder), *options]
    done = CliRunner().invoke(main, arguments, standalone_mode=False)
    assert done.return_value == 0, done.stderr
    return done.stdout


def test_every_value_is_shown_with_its_place_and_without_secrets(folder: Path) -> None:
    lines = check(folder, "--show").splitlines()
    for line in (
        "  name: kitchen  # configuration.yaml:2",
        "    directory: saved  # configuration.yaml:6, !env_var SWARM_HUB_TEST_BACKUPS saved",
        "    every: 86400  # default, 24h",
        "  jobs: 5  # configuration.yaml:8",
        "  redundancy: 1  # default",
        "  platform: weighted  # configuration.yaml:10",
        "  unproven_share: 0.5  # default",
        f"  ttl: '{REDACTED}'  # configuration.yaml:12, !secret ttl",
        f"  node_labels: {{room: '{REDACTED}', api_key: '{REDACTED}'}}  # packages/night.yaml:2",
        "  memory: 67108864  # packages/night.yaml:4, 64MiB",
        "  slots: auto  # default",
    ):
        assert line in lines, line
    assert not any("packages:" in line for line in lines)


def test_what_is_shown_configures_the_same(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder / "configuration.yaml").write_text(
        FILES["configuration.yaml"].replace("!secret ttl", "30")
    )
    (folder / "packages/night.yaml").write_text("worker:\nsandbox: {memory: 64MiB}\n")
    again = tmp_path_factory.mktemp("again")
    shown = check(folder, "--show")
    (again / "configuration.yaml").write_text(shown)
    assert yaml.safe_load(shown)["mesh"]["transport"] == "loopback"
    before, after = (
        {each.manifest.domain: each.config for each in bootstrap.check(each)[1].components}
        for each in (folder, again)
    )
    # Platforms make something new each time.
    for domain in set(before) - {"scheduler", "sla", "gc"}:
        assert after[domain] == before[domain], domain


def test_the_same_is_there_for_programs(folder: Path) -> None:
    told = json.loads(check(folder, "--json", "--show", "--files", "--timing"))
    found = {each["path"]: each for each in told["configuration"]}
    assert found["sandbox → memory"] == {
        "path": "sandbox → memory", "value": 64 * 1024**2, "written": "64MiB",
        "file": "packages/night.yaml", "line": 4, "tag": None,
    }  # fmt: skip
    assert found["signer → ttl"]["value"] == REDACTED
    default = found["gateway → redundancy"]
    assert (default["file"], default["value"]) == (None, 1)
    assert told["files"] == ["configuration.yaml", "packages/night.yaml", "secrets.yaml"]
    assert [each["component"] for each in told["timing"]] == told["components"]
    assert all(each["set_up_s"] is None and each["import_s"] >= 0 for each in told["timing"])


def test_files_of_the_owners_components_are_listed(folder: Path) -> None:
    home = folder / "custom_components" / "listed"
    home.mkdir(parents=True)
    manifest = {"domain": "listed", "name": "x", "documentation": "x", "version": "1"}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(
        "from swarm_hub.helpers import config_validation as cv\n"
        "CONFIG_SCHEMA = cv.section({}, dict)\n"
        "async def async_setup(hub, config):\n    return True\n"
    )
    (folder / "packages/own.yaml").write_text("listed:\n")
    said = check(folder, "--files").splitlines()
    assert "custom_components/listed/__init__.py" in said
    assert "custom_components/listed/manifest.json" in said
    assert check(folder).splitlines() == []


async def test_a_hub_that_runs_says_how_long_its_components_took(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(GATEWAY)
    with runner.locked(tmp_path):
        hub = await bootstrap.start_hub(tmp_path)
        try:
            said = await asyncio.to_thread(check, tmp_path, "--timing")
        finally:
            await hub.stop()
    rows = {line.split()[0]: line.split() for line in said.splitlines()}
    assert rows["component"] == ["component", "import", "set-up"]
    assert [len(rows[domain]) for domain in ("mesh", "gateway")] == [5, 5]
    assert float(rows["gateway"][3]) >= 0
