"""install.sh against stand-ins of pkg, Python and pip: what it does in which order, and spares.

`script/nightly install` and `script/termux` install for real. On a phone nothing of it was run.
"""

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from swarm_hub.client import AsyncSwarm
from tests.helpers.programs import Programs
from tests.helpers.swarms import local_swarm

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "swarm_hub" / "requirements"
# What only other parts of these libraries import than the ones that are used here.
NOT_IMPORTED = {
    "libp2p": {
        "aioquic", "coincurve", "fastecdsa", "grpcio", "httpx", "lru-dict", "miniupnpc",
        "mypy-protobuf", "pycryptodome", "requests", "rpcudp", "trio-websocket", "types-requests",
    },
    "multiaddr": {"dnspython", "netaddr"},
    "py-multibase": {"six"},
    "py-multihash": {"blake3", "mmh3", "six"},
    "trio-typing": {"importlib-metadata", "mypy-extensions", "packaging"},
}  # fmt: skip
# What Termux has built, or what is done without there.
NOT_FOR_ANDROID = {
    "cbor2", "cffi", "cryptography", "psutil", "pycparser", "pynacl", "wasmtime"
}  # fmt: skip


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> list[Requirement]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked(*names: str) -> dict[str, Requirement]:
    return {
        canonical(each.name): each for name in names for each in read(REQUIREMENTS / f"{name}.txt")
    }


def named(*extras: str) -> set[str]:
    """Return what the project says it needs."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return {canonical(Requirement(each).name) for each in wanted}


def test_what_is_installed_are_the_versions_that_the_tests_ran_with() -> None:
    tested = {canonical(each.name): each.specifier for each in read(ROOT / "constraints.txt")}
    for name in ("worker", "gateway", "android"):
        assert {each: found.specifier for each, found in locked(name).items()} == {
            each: tested[each] for each in locked(name)
        }


def test_what_is_installed_is_all_that_the_project_and_its_libraries_need() -> None:
    assert named() <= locked("worker").keys()
    assert named("gateway") <= locked("worker", "gateway").keys()
    assert not locked("worker").keys() & locked("gateway").keys()
    # Only a gateway finds others by mDNS, and is measured by Prometheus.
    of_gateways = {"prometheus-client", "zeroconf"}
    for_workers = NOT_IMPORTED | {"libp2p": NOT_IMPORTED["libp2p"] | of_gateways}
    assert lacking("worker") == for_workers
    assert lacking("worker", "gateway") == NOT_IMPORTED


def lacking(*roles: str) -> dict[str, set[str]]:
    """Return what libraries that are installed for these roles need and do not find there."""
    found = {
        name: {
            canonical(each.name)
            for each in map(Requirement, requires(name) or ())
            if each.marker is None or each.marker.evaluate({"extra": ""})
        }
        - locked(*roles).keys()
        for name in locked(*roles)
    }
    return {name: missing for name, missing in found.items() if missing}


def test_on_android_nothing_is_installed_that_has_no_wheel_there() -> None:
    android = {"sys_platform": "android"}
    left_out = {
        name
        for name, each in locked("worker").items()
        if each.marker is not None and not each.marker.evaluate(android)
    }
    assert left_out == NOT_FOR_ANDROID
    assert locked("android").keys() == {"wasmtime"}


# What `python3` and the environments that it makes do: what is asked of them in a line is real,
# packages are only told of, and the command of an environment is this checkout's where DIR/real is.
PYTHON = """
case "$1 $2" in
  "-c "*) exec {python} "$@" ;;
  "-m venv")
    for folder; do :; done
    mkdir -p "$folder/bin"
    cp "$0" "$folder/bin/python"
    cp {programs}/hub "$folder/bin/swarm-hub" ;;
  "-m pip") [ ! -e {programs}/broken ] || {{ echo "no such wheel" >&2; exit 1; }} ;;
esac
"""
HUB = """
if [ -e {programs}/real ]; then
  PYTHONPATH={root} exec {python} -c '
import sys
from swarm_hub.__main__ import main
sys.argv[0] = "'"$0"'"
main()' "$@"
fi
case "$1" in
  doctor) if [ -e {programs}/bad ]; then echo "bad   sandbox: none"; exit 1; fi ;;
  init) shift $(($# - 1)); mkdir -p "$1"; touch "$1/configuration.yaml" ;;
  join) [ ! -e {programs}/refuses ] ;;
  --version) echo "swarm-hub, version 0" ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Device:
    """A home, and a PATH with programs that tell of their calls."""

    home: Path
    programs: Programs
    env: dict[str, str]

    @property
    def prefix(self) -> Path:
        return self.home / ".local" / "share" / "swarm_hub"

    @property
    def wheel(self) -> Path:
        return self.home / "swarm_hub-0-py3-none-any.whl"

    def install(
        self, *arguments: str, script: bytes | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run install.sh, from its file or as what comes through a pipe."""
        command = ["bash", str(ROOT / "install.sh")] if script is None else ["bash", "-s", "--"]
        done = subprocess.run(
            [*command, *arguments],
            input=script, capture_output=True, env=self.env, cwd=self.home, timeout=60, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def calls(self) -> list[str]:
        """Return what was called since the last time, without what differs from run to run."""
        found = self.programs.calls()
        self.programs.forget()
        versions = re.compile(re.escape(str(self.prefix / "versions")) + r"/[0-9TZ.]+")
        return [versions.sub("NEW", each) for each in found if not each.startswith("python3 -c")]

    def versions(self) -> list[str]:
        return sorted(each.name for each in (self.prefix / "versions").glob("*"))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Return a computer with Debian on which Python is installed."""
    programs = Programs(tmp_path / "programs")
    values = {"python": sys.executable, "programs": programs.folder, "root": ROOT}
    programs.add("python3", PYTHON.format(**values))
    programs.add("hub", HUB.format(**values))
    (programs.folder / "hub").write_text(
        (programs.folder / "hub").read_text().replace('echo "hub', 'echo "swarm-hub')
    )
    env = {
        "HOME": str(tmp_path / "home"), "PATH": f"{programs.folder}:/usr/bin:/bin",
        "SWARM_HUB_FROM": str(tmp_path / "home" / "swarm_hub-0-py3-none-any.whl"),
    }  # fmt: skip
    made = Device(tmp_path / "home", programs, env)
    made.home.mkdir()
    made.wheel.touch()
    return made


@pytest.fixture
def phone(device: Device, tmp_path: Path) -> Device:
    """Return a phone with Termux, and nothing installed there but what it came with."""
    prefix = tmp_path / "usr"
    for folder in ("bin", "etc/profile.d"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "etc" / "profile.d" / "start-services.sh").touch()
    (prefix / "bin" / "sh").symlink_to("/bin/sh")
    device.env.update(TERMUX_VERSION="0.118.0", PREFIX=str(prefix))
    device.env["PATH"] = f"{prefix}/bin:{device.env['PATH']}"
    # This Python stands for Termux's, which is newer and has cryptography once pkg brought it.
    python = device.programs.folder / "python3"
    newer = (
        f'"-c "*cryptography*) [ -e {tmp_path}/python-cryptography ]; exit ;;\n'
        f'  "-c "*_cffi_backend*) [ -e {tmp_path}/cffi ]; exit ;;\n'
        '  "-c "*ensurepip*|"-c "*" pip") exit 0 ;;\n'
        '  "-m pip")\n'
        '    case "$*" in\n'
        "      *only-binary*cffi) exit 1 ;;\n"
        f'      *"--quiet cffi") [ -e {tmp_path}/clang ] && touch {tmp_path}/cffi; exit ;;\n'
        "    esac ;;&\n"
        '  "-c "*)'
    )
    python.write_text(
        python.read_text().replace('"-c "*)', newer).replace("#!/bin/sh", "#!/bin/bash")
    )
    brought = "\n".join(
        f"printf '#!/bin/sh\\n' > {prefix}/bin/{name}; chmod +x {prefix}/bin/{name}"
        for name in ("sv", "termux-battery-status")
    )
    device.programs.add("pkg", f"{brought}\nshift 2\nfor each; do touch {tmp_path}/$each; done")
    device.programs.add("uname", "echo aarch64")
    device.programs.add("termux-wake-lock")
    return device


PIP = "python3 -m pip --disable-pip-version-check --quiet install --no-deps"


def pip(calls: Sequence[str]) -> list[str]:
    """Return how pip was called, without where this Python keeps packages."""
    return [
        re.sub(r"\S+/site-packages", "SITE", each).removeprefix(PIP).strip()
        for each in calls
        if each.startswith(PIP)
    ]


@pytest.fixture
def link(tmp_path: Path) -> Iterator[str]:
    """An invitation of a gateway that runs."""
    local = local_swarm(tmp_path / "swarm")
    gateway = local.start_gateway()

    async def invite() -> str:
        async with AsyncSwarm(gateway.url, gateway.token) as client:
            await local.wait_for_workers(client, 0)
            return str((await client.invite(expires_s=600, addresses=[gateway.address])).link)

    try:
        yield asyncio.run(invite())
    finally:
        local.stop()


def test_one_line_makes_a_phone_a_worker_that_runs(
    phone: Device, link: str, tmp_path: Path
) -> None:
    (phone.programs.folder / "real").touch()
    done = phone.install(link, script=(ROOT / "install.sh").read_bytes())
    assert done.returncode == 0, done.stderr
    calls = phone.calls()
    # There is no wheel of what cryptography loads, and its package would fail to compile it.
    assert calls[:5] == [
        "pkg install -y termux-services termux-api",
        "python3 -m pip install --quiet --only-binary=:all: cffi",
        "pkg install -y clang libffi",
        "python3 -m pip install --quiet cffi",
        "pkg install -y python-cryptography",
    ]
    assert "python3 -m venv --system-site-packages NEW" in calls
    assert pip(calls) == [
        str(phone.wheel),
        "--only-binary=:all: --platform android_26_arm64_v8a --target SITE "
        "-r SITE/swarm_hub/requirements/android.txt",
        "-r SITE/swarm_hub/requirements/worker.txt",
    ]
    assert any(each.startswith("python3 -m compileall -q ") for each in calls)
    config = phone.home / ".config" / "swarm_hub"
    assert "worker:" in (config / "configuration.yaml").read_text()
    hub = phone.prefix / "current" / "bin" / "swarm-hub"
    command = tmp_path / "usr" / "bin" / "swarm-hub"
    assert command.readlink() == hub
    # What runit runs is a link, which the next version will be behind.
    run = tmp_path / "usr" / "var" / "service" / "swarm-hub" / "run"
    assert run.read_text().endswith(f"exec {hub} run -c {config}\n")
    assert (phone.home / ".termux" / "boot" / "swarm-hub").is_file()


def test_run_again_it_upgrades_and_keeps_the_version_that_may_still_run(phone: Device) -> None:
    assert phone.install("--no-service").returncode == 0
    phone.calls()
    (first,) = phone.versions()
    again = phone.install("--no-service")
    assert again.returncode == 0, again.stderr
    assert not any(each.startswith("pkg") for each in phone.calls())
    assert len(phone.versions()) == 2
    assert phone.install("--no-service").returncode == 0
    kept = phone.versions()
    assert len(kept) == 2
    assert first not in kept
    assert (phone.prefix / "current").readlink().name == kept[-1]


@pytest.mark.parametrize(("sign", "said"), [("broken", "no such wheel"), ("bad", "sandbox: none")])
def test_a_step_that_fails_leaves_the_version_that_was_there(
    device: Device, sign: str, said: str
) -> None:
    (device.programs.folder / sign).touch()
    failed = device.install()
    assert (failed.returncode, "nothing was installed" in failed.stderr) == (1, True)
    assert not device.prefix.exists()
    (device.programs.folder / sign).unlink()
    assert device.install().returncode == 0
    before, link = device.versions(), (device.prefix / "current").readlink()
    (device.programs.folder / sign).touch()
    failed = device.install()
    assert failed.returncode == 1
    assert said in failed.stderr
    assert "the version that was here stays in use" in failed.stderr
    assert (device.versions(), (device.prefix / "current").readlink()) == (before, link)


def test_a_gateway_gets_its_libraries_and_a_configuration_and_is_started(device: Device) -> None:
    done = device.install("--role", "gateway")
    assert done.returncode == 0, done.stderr
    calls = device.calls()
    assert pip(calls)[1:] == [
        "-r SITE/swarm_hub/requirements/worker.txt", "-r SITE/swarm_hub/requirements/gateway.txt"
    ]  # fmt: skip
    config = device.home / ".config" / "swarm_hub"
    assert calls[-3:] == [
        f"swarm-hub init -c {config}", f"swarm-hub service install -c {config}",
        "swarm-hub --version",
    ]  # fmt: skip


def test_without_a_link_it_says_what_comes_next_and_starts_nothing(device: Device) -> None:
    done = device.install()
    assert "join LINK && " in done.stderr
    assert not any(" service " in each for each in device.calls())


def test_a_link_that_is_refused_is_said_at_the_end_and_the_hub_that_was_there_goes_on(
    device: Device,
) -> None:
    device.install("--role", "gateway")
    device.calls()
    (device.programs.folder / "refuses").touch()
    done = device.install("swarmhub://join/1/x")
    assert done.returncode == 1
    assert "installed, but not joined" in done.stderr
    assert any(each.startswith("swarm-hub service install") for each in device.calls())


def test_a_dry_run_prints_the_commands_and_changes_nothing(device: Device) -> None:
    done = device.install("--dry-run", "--role", "gateway")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"python3 -m venv {device.prefix}/versions/" in lines[1]
    assert lines[-1].endswith(f"swarm-hub service install -c {device.home}/.config/swarm_hub")
    assert device.calls() == []
    assert list(device.home.iterdir()) == [device.wheel]


def test_what_is_missing_is_said_where_this_user_may_not_install_it(device: Device) -> None:
    for name in ("python3", *(f"python3.{minor}" for minor in range(11, 15))):
        device.programs.add(name, "exit 1")
    device.programs.add("id", "echo 1000")
    device.programs.add("sudo", "exit 1")
    device.programs.add("apt-get")
    done = device.install()
    assert done.returncode == 1
    assert "run: sudo apt-get install -y python3 python3-venv; then this again" in done.stderr
    assert not any(each.startswith("apt-get") for each in device.calls())
    # Asking for no password is leave to use it.
    device.programs.add("sudo")
    assert "Python 3.11 or newer" in device.install().stderr
    assert "sudo -n apt-get install -y python3 python3-venv" in device.calls()


def test_removing_keeps_the_configuration_unless_it_is_to_be_purged(device: Device) -> None:
    device.install("--role", "gateway")
    config, command = device.home / ".config" / "swarm_hub", device.home / ".local/bin/swarm-hub"
    assert command.is_symlink()
    device.calls()
    done = device.install("--uninstall")
    assert (done.returncode, device.calls()) == (0, ["swarm-hub service remove"])
    assert f"kept: {config}" in done.stderr
    assert not device.prefix.exists()
    assert not command.is_symlink()
    assert (config / "configuration.yaml").exists()
    assert device.install("--uninstall", "--purge").returncode == 0
    assert not config.exists()


def test_a_program_of_that_name_that_is_not_ours_stays(device: Device) -> None:
    own = device.home / ".local" / "bin" / "swarm-hub"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert "is another program and stays" in device.install().stderr
    device.install("--uninstall")
    assert own.read_text() == "mine"


def test_a_script_that_was_cut_on_its_way_does_nothing(device: Device) -> None:
    script = (ROOT / "install.sh").read_bytes()
    for end in (*range(200, len(script), 1500), len(script) - len('main "$@"\n')):
        device.install(script=script[:end])
        assert device.calls() == []
    assert list(device.home.iterdir()) == [device.wheel]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--form", "x"], "unknown: --form; see --help"),
        (["--from"], "--from needs a value"),
        (["--role", "both"], "--role is worker or gateway, not both"),
        (["--purge"], "--purge belongs to --uninstall"),
    ],
)
def test_wrong_usage_is_said(device: Device, arguments: list[str], said: str) -> None:
    done = device.install(*arguments)
    assert done.returncode == 1
    assert said in done.stderr


def test_from_where_is_known_in_a_clone_and_asked_for_in_a_pipe(device: Device) -> None:
    del device.env["SWARM_HUB_FROM"]
    assert f"install --no-deps {ROOT}\n" in device.install("--dry-run").stdout
    piped = device.install(script=(ROOT / "install.sh").read_bytes())
    assert (piped.returncode, "from where?" in piped.stderr) == (1, True)
    named = device.install("--dry-run", "--from", "git+https://example.org/x.git")
    assert "install --no-deps git+https://example.org/x.git\n" in named.stdout


def test_a_phone_is_no_gateway(phone: Device) -> None:
    assert "a phone can be a worker only" in phone.install("--role", "gateway").stderr


def test_the_script_can_be_run_and_is_clean() -> None:
    assert os.access(ROOT / "install.sh", os.X_OK)
    scripts = (ROOT / "install.sh", ROOT / "script" / "termux")
    subprocess.run(["shellcheck", *map(str, scripts)], check=True)
