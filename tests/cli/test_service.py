"""`service`: what the service managers are told, by fakes that write down how they were called."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from swarm_hub.cli import main
from swarm_hub.cli.services import Service, systemd
from swarm_hub.exceptions import HubError
from tests.helpers.programs import Programs

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a way to run `service` on a directory that holds a configuration."""
    directory = tmp_path / "a hub"
    directory.mkdir()
    (directory / "configuration.yaml").touch()
    monkeypatch.setenv("SWARM_HUB_CONFIG", str(directory))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("TERMUX_VERSION", raising=False)
    monkeypatch.setattr(sys, "argv", ["-m"])
    return lambda *arguments: CliRunner().invoke(
        main, ["service", *arguments], standalone_mode=False
    )


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Return the folder in which commands are looked for, with what tells of their calls."""
    made = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    return made


@pytest.fixture
def with_systemd(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Return the programs of a machine that systemd booted, whose user is not root."""
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setattr(systemd, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("LOGNAME", "ada")
    programs.add("systemctl")
    programs.add("loginctl")
    return programs


@pytest.fixture
def termux(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Return the programs of a phone with termux-services and Termux:API."""
    prefix = tmp_path / "usr"
    (prefix / "etc" / "profile.d").mkdir(parents=True)
    programs.add("service-daemon")
    (prefix / "etc" / "profile.d" / "start-services.sh").write_text("service-daemon start\n")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PREFIX", str(prefix))
    programs.add("sv", "echo 'run: here: (pid 42) 7s; run: log: (pid 41) 7s'")
    programs.add("termux-job-scheduler")
    # After `call`, which takes it away.
    monkeypatch.setenv("TERMUX_VERSION", "0.118.0")
    return programs


def test_systemd_gets_a_unit_of_the_user_that_is_enabled_and_started(
    call: Call, with_systemd: Programs, tmp_path: Path
) -> None:
    done = call("install")
    assert done.exit_code == 0, done.output
    unit = tmp_path / "home" / ".config" / "systemd" / "user" / "swarm-hub.service"
    text = unit.read_text()
    assert f'ExecStart={sys.executable} -m swarm_hub run -c "{tmp_path / "a hub"}"\n' in text
    assert "Type=notify\n" in text
    assert "WatchdogSec=" in text
    assert "User=" not in text
    assert with_systemd.calls() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable swarm-hub.service",
        "loginctl enable-linger ada",
        "systemctl --user --no-block restart swarm-hub.service",
    ]


def test_a_unit_of_the_system_is_the_owners_of_the_directory_and_fenced_in(
    call: Call, with_systemd: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = call("install", "--system", "--name", "second")
    assert isinstance(refused.exception, HubError)
    assert f"sudo {sys.executable} -m swarm_hub service install --system" in str(refused.exception)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert call("install", "--name", "second").exit_code == 0
    text = (tmp_path / "units" / "second.service").read_text()
    assert f'ReadWritePaths="{tmp_path / "a hub"}"\n' in text
    assert f"User={(tmp_path / 'a hub').owner()}\n" in text
    assert "ProtectSystem=full\n" in text
    assert with_systemd.calls()[1:] == [
        "systemctl enable second.service", "systemctl --no-block restart second.service"
    ]  # fmt: skip


@pytest.mark.parametrize("system", [False, True])
def test_systemd_itself_understands_the_unit(tmp_path: Path, system: bool) -> None:
    folder = tmp_path / 'a "hub" 100%'
    folder.mkdir()
    path = tmp_path / "swarm-hub.service"
    program = (shutil.which("true") or "", "$HOME")
    path.write_text(systemd.Systemd(system=system).unit(Service("hub", program, folder)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if path.name in line]
    # These two come with systemd 254.
    assert [line for line in told if "Restart" not in line] == []


def test_the_unit_of_the_system_is_fenced_in_by_what_systemd_counts(tmp_path: Path) -> None:
    path = tmp_path / "swarm-hub.service"
    program = (shutil.which("true") or "",)
    path.write_text(systemd.Systemd(system=True).unit(Service("hub", program, tmp_path)))
    # It was 3.0 of 10 with systemd 252, of which 1.8 is what a hub is for: network, root's files.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_systemd_tells_is_shown_and_its_code_says_whether_it_runs(
    call: Call, with_systemd: Programs
) -> None:
    assert call("status").return_value == 1
    call("install")
    with_systemd.add(
        "systemctl",
        "printf 'ActiveState=active\\nSubState=running\\nUnitFileState=enabled\\nMainPID=42\\n'",
    )
    with_systemd.add("loginctl", "echo Linger=no")
    done = call("status", "--json")
    assert done.return_value == 0
    told = json.loads(done.output)
    assert (told["manager"], told["installed"], told["running"]) == ("systemd (user)", True, True)
    assert told["log"] == "journalctl --user -u swarm-hub.service"
    linger = told["layers"][-1]
    assert (linger["present"], linger["text"]) == (False, "loginctl enable-linger ada")
    assert "swarm-hub, by systemd (user): runs\n" in call("status").output


def test_a_manager_that_refuses_is_quoted_and_what_can_be_missed_is_a_note(
    call: Call, with_systemd: Programs
) -> None:
    with_systemd.add("loginctl", "echo 'Access denied' >&2; exit 1")
    done = call("install")
    assert done.exit_code == 0
    assert "Note: the hub runs only while you are logged in" in done.output
    assert "Access denied" in done.output
    with_systemd.add("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    refused = call("install").exception
    assert isinstance(refused, HubError)
    assert str(refused) == ("systemctl --user daemon-reload: exit code 1: Failed to connect to bus")


def test_removing_stops_the_hub_and_leaves_its_directory(
    call: Call, with_systemd: Programs, tmp_path: Path
) -> None:
    call("install")
    with_systemd.forget()
    assert call("remove").exit_code == 0
    assert list((tmp_path / "home").rglob("*.service")) == []
    assert (tmp_path / "a hub" / "configuration.yaml").exists()
    assert with_systemd.calls() == [
        "systemctl --user disable --now swarm-hub.service", "systemctl --user daemon-reload"
    ]  # fmt: skip
    # Once more there is nothing to stop.
    again = call("remove", "--json")
    assert (again.exit_code, json.loads(again.output)["done"]) == (0, True)


def test_a_dry_run_prints_the_commands_and_does_nothing(
    call: Call, with_systemd: Programs, tmp_path: Path
) -> None:
    done = call("install", "--dry-run")
    assert done.exit_code == 0
    assert with_systemd.calls() == []
    assert not (tmp_path / "home").exists()
    told = json.loads(call("install", "--dry-run", "--json").output)
    assert (told["name"], told["done"], told["missed"]) == ("swarm-hub", False, [])
    assert "\n".join(told["steps"]) == done.output.rstrip("\n")
    # They are the same: a shell that runs them makes the same file and the same calls.
    subprocess.run(["sh", "-e", "-c", done.output], check=True)
    made, *_ = (tmp_path / "home").rglob("*.service")
    by_hand, calls = made.read_text(), with_systemd.calls()
    made.unlink()
    with_systemd.forget()
    call("install")
    assert (made.read_text(), with_systemd.calls()) == (by_hand, calls)


def test_runit_in_termux_gets_the_hub_a_rotated_log_and_two_more_layers(
    call: Call, termux: Programs, tmp_path: Path
) -> None:
    done = call("install")
    assert done.exit_code == 0, done.output
    service = tmp_path / "usr" / "var" / "service" / "swarm-hub"
    logs = tmp_path / "usr" / "var" / "log" / "sv" / "swarm-hub"
    command = f"exec {sys.executable} -m swarm_hub run -c '{tmp_path / 'a hub'}'"
    assert (service / "run").read_text().splitlines()[1:] == ["exec 2>&1", command]
    assert (service / "log" / "run").read_text().splitlines()[1:] == [f"exec svlogd {logs}"]
    assert (logs / "config").read_text() == "s100000\nn10\n"
    boot = tmp_path / "home" / ".termux" / "boot" / "swarm-hub"
    for script in (service / "run", service / "log" / "run", boot):
        assert os.access(script, os.X_OK), script
    assert termux.calls() == [
        "service-daemon start",
        f"termux-job-scheduler --script {boot} --job-id 8470 --period-ms 900000 --persisted true "
        "--network none --battery-not-low false",
    ]
    termux.forget()
    # Again, as after an upgrade: the hub that runs is restarted.
    assert call("install").exit_code == 0
    assert f"sv -w 60 restart {service}" in termux.calls()


def test_an_app_that_does_not_answer_is_a_note(
    call: Call, termux: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_hub.cli.services.termux.ASK_WITHIN_S", 0.1)
    termux.add("termux-job-scheduler", "exec sleep 60")
    done = call("install")
    assert done.exit_code == 0
    assert "Note: Android's job scheduler will not start the hub again" in done.output


def test_the_layers_of_a_phone_are_told(call: Call, termux: Programs, tmp_path: Path) -> None:
    assert call("status").return_value == 1
    call("install")
    boot = tmp_path / "home" / ".termux" / "boot" / "swarm-hub"
    termux.add("termux-job-scheduler", f"echo 'Pending Job 8470: {boot}'")
    done = call("status", "--json")
    assert done.return_value == 0
    layers = {layer["name"]: layer["present"] for layer in json.loads(done.output)["layers"]}
    assert layers == {"termux-services": True, "Termux:Boot": True, "job scheduler": True}
    termux.add("sv", "echo 'down: here: 3s, normally up'")
    assert call("status").return_value == 1


def test_removing_from_a_phone_cancels_the_job_and_stops_the_hub_first(
    call: Call, termux: Programs, tmp_path: Path
) -> None:
    call("install")
    termux.forget()
    assert call("remove").exit_code == 0
    service = tmp_path / "usr" / "var" / "service" / "swarm-hub"
    assert termux.calls() == [
        "termux-job-scheduler --cancel --job-id 8470", f"sv -w 60 stop {service}"
    ]  # fmt: skip
    assert not service.exists()
    assert list((tmp_path / "home" / ".termux" / "boot").iterdir()) == []


def test_what_is_missing_is_said(
    call: Call, termux: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    termux.take_away("sv")
    monkeypatch.setenv("PATH", str(termux.folder))
    assert "pkg install termux-services" in str(call("install").exception)
    monkeypatch.setenv("SWARM_HUB_CONFIG", str(tmp_path))
    assert "swarm-hub init" in str(call("install").exception)
    monkeypatch.delenv("TERMUX_VERSION")
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "nowhere")
    assert "swarm-hub run --log FILE" in str(call("status").exception)
    assert isinstance(call("status", "--name", "../x").exception, click.BadParameter)


def test_the_command_is_the_one_that_was_called_so_that_an_upgrade_reaches_it(
    call: Call, with_systemd: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "versions" / "1" / "swarm-hub"
    real.parent.mkdir(parents=True)
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    link = tmp_path / "bin" / "swarm-hub"
    link.parent.mkdir()
    link.symlink_to(real)
    monkeypatch.setattr(sys, "argv", [str(link)])
    assert f"ExecStart={link} run" in call("install", "--dry-run").output
