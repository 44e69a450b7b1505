"""`swarm-hub schema`: editors know every key, and find no fault with what tags stand for."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from script.scaffold_tools.__main__ import scaffold
from swarm_hub import bootstrap
from swarm_hub.cli import main
from tests.helpers.editor import built_in, faults

EXAMPLE = (Path(__file__).parents[2] / "configuration.yaml.example").read_text(encoding="utf-8")
SCHEMA = built_in()


def test_the_example_has_no_fault() -> None:
    assert faults(EXAMPLE, SCHEMA) == []


@pytest.mark.parametrize(
    "text",
    [
        "gateway: !include gateway.yaml",
        "gateway: {jobs: !secret job_limit}",
        "gateway: {jobs: !env_var JOBS 100}",
        "gateway: {admission: !env_var ADMISSION open}",
        "worker: {charging_only: !secret charging}",
        "worker: {hours: {mon-fri: '22:00-07:00', sat-sun: any}}",
        "worker: {on_battery: {slots: 1}, plug: [ac, usb]}",
        "signer: {trust: !include_dir_merge_list keys}",
        "signer: {trust: [!secret key]}",
        "hub: {packages: !include_dir_named packages}",
        "hub: {packages: {night: {worker: {slots: 2}}, day: !include day.yaml}}",
        "api: {tls: {self_signed: true}, ip_ban: false}",
        "storage: {url: !secret url, backup: }",
        "frontend: false",
        "gc: {platform: ttl, unread_after: 2h}",
        "runtimes: {python: {path: a.wasm, sha256: !secret python}}",
    ],
)
def test_what_may_be_written_has_no_fault(text: str) -> None:
    assert faults(text, SCHEMA) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("gatway: {}", ""),
        ("gateway: {jbos: 1}", "gateway"),
        ("gateway: {jobs: 0}", "gateway"),
        ("gateway: {admission: opne}", "gateway"),
        ("worker: {charging_only: 'yes'}", "worker"),
        ("worker: {on_battery: {slot: 1}}", "worker"),
        ("worker: false", "worker"),
        ("gc: {platform: ttl, keep: 7d}", "gc"),
        ("gc: {completed_after: 300}", "gc"),
        ("hub: {packages: {night: {worker: {slot: 2}}}}", "hub"),
    ],
)
def test_what_is_wrong_has_a_fault(text: str, place: str) -> None:
    assert faults(text, SCHEMA) == [place]


def test_a_key_has_its_text_its_unit_and_its_default() -> None:
    keys = SCHEMA["properties"]["worker"]["anyOf"][0]["properties"]
    assert keys["max_temperature"]["default"] == "auto"
    assert keys["max_temperature"]["description"].startswith("Take no work above this temperature")
    assert "Unit: °C." in keys["max_temperature"]["description"]


def printed(folder: Path) -> tuple[dict[str, object], str]:
    done = CliRunner().invoke(main, ["schema", "-c", str(folder)], standalone_mode=False)
    assert done.exception is None
    return json.loads(done.stdout), done.stderr


def test_components_and_platforms_of_ones_own_are_in_it(tmp_path: Path) -> None:
    for line in ("component heater", "platform careful --domain sla"):
        done = CliRunner().invoke(scaffold, [*line.split(), "--custom", str(tmp_path)])
        assert done.exit_code == 0, done.output
    schema, _ = printed(tmp_path)
    assert faults("heater: {every: 5s}\nsla: {platform: careful, each: 1m}", schema) == []
    assert faults("heater: {evry: 5s}", schema) == ["heater"]
    assert faults("sla: {platform: careful, factor: 2}", schema) == ["sla"]
    assert "How often it looks." in json.dumps(schema)
    assert schema["properties"].keys() == SCHEMA["properties"].keys() | {"heater"}  # type: ignore[attr-defined]


def test_of_a_component_that_can_not_be_imported_anything_is_taken(tmp_path: Path) -> None:
    scaffolded = CliRunner().invoke(scaffold, ["component", "stove", "--custom", str(tmp_path)])
    assert scaffolded.exit_code == 0
    (tmp_path / "custom_components" / "stove" / "service.py").write_text("import nowhere\n")
    schema, said = printed(tmp_path)
    assert "custom_components/stove/service.py" in said
    assert faults("stove: {evry: 5s}", schema) == []


def test_a_section_that_is_a_list_is_one_in_it(tmp_path: Path) -> None:
    home = tmp_path / "custom_components" / "rules"
    home.mkdir(parents=True)
    manifest = {"domain": "rules", "name": "Rules", "documentation": "x", "version": "1.0.0"}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "keys.yaml").write_text("about: Rules.\ntype: list\nexample: |\n  - alias: one\n")
    (home / "__init__.py").write_text(
        "def CONFIG_SCHEMA(value):\n    return value or []\n\n\n"
        "async def async_setup(hub, config):\n    return True\n"
    )
    schema, _ = printed(tmp_path)
    assert faults("rules:\n- alias: one\n", schema) == []
    assert faults("rules: {alias: one}\n", schema) == ["rules"]


@pytest.mark.parametrize("role", ["gateway", "worker", "both"])
def test_what_init_writes_passes_and_names_its_schema(tmp_path: Path, role: str) -> None:
    done = CliRunner().invoke(main, ["init", "-c", str(tmp_path), "--role", role])
    assert done.exit_code == 0
    text = (tmp_path / "configuration.yaml").read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads((tmp_path / first.partition("=")[2]).read_bytes())
    assert schema == SCHEMA
    assert faults(text, schema) == []
    _, planned = bootstrap.check(tmp_path)
    roles = {each.manifest.domain for each in planned.components} & {"gateway", "worker"}
    assert roles == ({"gateway", "worker"} if role == "both" else {role})


def test_a_name_that_a_hub_can_not_have_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["init", "-c", str(tmp_path), "--name", "x" * 65])
    assert done.exit_code != 0
    assert not (tmp_path / "configuration.yaml").exists()


def test_on_a_terminal_init_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "swarm_hub", "init", "-c", str(tmp_path)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.write(ours, b"worker\nkitchen tablet\n")
        assert process.wait(timeout=90) == 0
    said = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert "What does this device do?" in said
    configuration, planned = bootstrap.check(tmp_path)
    assert configuration.hub.name == "kitchen tablet"
    assert "gateway" not in {each.manifest.domain for each in planned.components}
