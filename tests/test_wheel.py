"""The wheel: installed alone into an empty environment, it does what the checkout does."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.const import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PRIMES_BELOW_100_000 = "9592"


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that has the wheel, and from this one the libraries only."""

    folder: Path
    wheel: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def start(self, *command: object, cwd: Path) -> subprocess.Popen[str]:
        """Start a command of the environment, which sees no other hub's settings."""
        own = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("SWARM_HUB", "PYTHON"))
        }
        env = own | {"HOME": str(cwd), "SWARM_HUB_CONFIG": str(cwd / "hub")}
        return subprocess.Popen(
            [self.folder / "bin" / str(command[0]), *map(str, command[1:])],
            cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *command: object, cwd: Path, timeout_s: float = 30) -> str:
        """Return what a command printed; fail where it does."""
        process = self.start(*command, cwd=cwd)
        out, err = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, out + err
        return out


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    _call("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    _call("-m", "venv", "--without-pip", venv)
    _call(
        "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet", "--no-deps",
        "--no-index", wheel,
    )  # fmt: skip
    # The libraries lie beside the package as after a download, since what they bring can be in its
    # way there: one has a top-level folder `examples`. A .pth file would lead to the checkout.
    (packages,) = venv.glob("lib/python*/site-packages")
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if library.suffix != ".pth" and not library.name.startswith(("swarm_hub", "__pycache__")):
            (packages / library.name).symlink_to(library)
    return Installed(venv, wheel)


def _call(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running_hub(installed: Installed, cwd: Path) -> Iterator[None]:
    """Make a configuration directory by `init`, and run its hub."""
    api_port = free_port()
    installed.run("swarm-hub", "init", "--port", api_port, "--mesh-port", free_port(), cwd=cwd)
    hub = installed.start("swarm-hub", "run", cwd=cwd)
    try:
        _wait_until_it_answers(hub, api_port)
        yield
    finally:
        hub.send_signal(signal.SIGINT)
        out, err = hub.communicate(timeout=90)
    assert hub.returncode == 0, out + err
    assert "Traceback" not in err


def _wait_until_it_answers(hub: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 30
    while hub.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the hub does not answer"
            time.sleep(0.05)
        else:
            return


def test_the_wheel_carries_all_that_a_hub_needs_and_no_tests(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert f"swarm_hub-{__version__}.dist-info/licenses/LICENSE" in names
    examples = {path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*.wat")}
    assert examples
    assert {f"swarm_hub/{path}" for path in examples} <= set(names)
    page = (ROOT / "swarm_hub" / "components" / "frontend" / "page").rglob("*.*")
    assert {str(path.relative_to(ROOT)) for path in page} <= set(names)
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"swarm_hub", f"swarm_hub-{__version__}.dist-info"}


def test_a_hub_of_the_wheel_is_made_runs_and_does_a_job(
    installed: Installed, tmp_path: Path
) -> None:
    where = installed.run("python", "-c", "print(__import__('swarm_hub').__file__)", cwd=tmp_path)
    package = Path(where.strip()).parent
    assert package.is_relative_to(installed.folder)
    assert installed.run("swarm-hub", "--version", cwd=tmp_path).endswith(f"{__version__}\n")
    with running_hub(installed, tmp_path):
        primes = tmp_path / "primes.wat"
        primes.write_text(installed.run("swarm-hub", "example", "primes", cwd=tmp_path))
        answer = installed.run(
            "swarm-hub", "submit", primes, "--range", "0:100000", "--reduce", "sum", "--watch",
            cwd=tmp_path,
        )  # fmt: skip
        assert answer.strip() == PRIMES_BELOW_100_000
