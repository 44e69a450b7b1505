"""`doctor` as a whole: bounded, in words and as JSON, with a command for each thing to mend."""

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub.cli import doctor as doctor_module
from swarm_hub.cli.diagnosis import Finding, libraries
from swarm_hub.cli.doctor import doctor


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(doctor, [str(each) for each in arguments], standalone_mode=False)
    return done.return_value, done.output


def only(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    def check(_config_dir: Path) -> list[Finding]:
        return list(findings)

    monkeypatch.setattr(doctor_module, "_CHECKS", (check,))


def test_warnings_do_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, Finding("ok", "a", "well"), Finding("warn", "b", "unwell", "mend b"))
    assert run("-c", tmp_path) == (0, "ok    a: well\nwarn  b: unwell\n      → mend b\n")
    only(monkeypatch, Finding("ok", "a", "well"), Finding("bad", "c", "ill"))
    assert run("-c", tmp_path)[0] == 1


def test_the_json_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, Finding("ok", "a", "well"), Finding("bad", "b", "ill", "mend b"))
    code, said = run("-c", tmp_path, "--json")
    assert code == 1
    assert json.loads(said) == [
        {"level": "ok", "subject": "a", "text": "well", "command": None},
        {"level": "bad", "subject": "b", "text": "ill", "command": "mend b"},
    ]


def test_a_check_that_hangs_is_left_behind_and_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    goes_on = threading.Event()

    def _hanging(_config_dir: Path) -> list[Finding]:
        goes_on.wait(60)
        return []

    def _quick(_config_dir: Path) -> list[Finding]:
        return [Finding("ok", "quick", "well")]

    monkeypatch.setattr(doctor_module, "_CHECKS", (_hanging, _quick))
    monkeypatch.setattr(doctor_module, "_WITHIN_S", 0.2)
    code, said = run("-c", tmp_path)
    goes_on.set()
    assert code == 0
    assert said == "warn  hanging: no answer within 0 s\nok    quick: well\n"


def test_a_check_that_lacks_a_library_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def _lacking(_config_dir: Path) -> list[Finding]:
        raise ModuleNotFoundError("No module named 'trio'", name="trio")

    monkeypatch.setattr(doctor_module, "_CHECKS", (_lacking,))
    code, said = run("-c", tmp_path)
    assert code == 0
    assert said.startswith("warn  lacking: not known: No module named 'trio'\n")
    assert "pip install trio" in said


def test_a_directory_that_is_not_there_comes_with_what_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor_module, "_CHECKS", (doctor_module._directory,))
    _, said = run("-c", tmp_path / "none")
    assert f"→ swarm-hub init -c {tmp_path / 'none'}" in said


def test_doctor_finds_a_healthy_and_a_broken_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Longer than a user would want to wait, as other tests may keep the machine busy.
    monkeypatch.setattr(doctor_module, "_WITHIN_S", 120.0)
    monkeypatch.setattr(libraries, "_WITHIN_S", 120.0)
    yaml = tmp_path / "configuration.yaml"
    yaml.write_text("gateway:\nworker:\napi:\n")
    code, said = run("-c", tmp_path)
    assert code == 0, said
    assert "ok    configuration: valid" in said
    assert "ok    libraries: libp2p" in said
    (sandbox,) = [line for line in said.splitlines() if " sandbox: " in line]
    assert sandbox.startswith("warn" if "no " in sandbox else "ok")
    assert all(part in sandbox for part in ("no_new_privs (set)", "landlock", "seccomp"))
    yaml.write_text("gateway: 5\n")
    code, said = run("-c", tmp_path, "--json")
    assert code == 1
    (bad,) = [each for each in json.loads(said) if each["level"] == "bad"]
    assert bad["subject"] == "configuration"
    assert bad["command"] == f"swarm-hub check -c {tmp_path}"
