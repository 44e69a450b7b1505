"""A forked process is like one that was started, and free ports stay free."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import free_port
from tests.helpers import warm
from tests.helpers.hub_process import hub_dir


def test_a_command_says_the_same_forked_and_started(tmp_path: Path) -> None:
    forked = warm.run("swarm_hub", ["check", "-c", tmp_path])
    started = subprocess.run(
        [sys.executable, "-m", "swarm_hub", "check", "-c", tmp_path],
        capture_output=True, check=False,
    )  # fmt: skip
    assert forked.returncode == started.returncode == 1
    assert (forked.stdout, forked.stderr) == (started.stdout, started.stderr)


def test_a_killed_one_and_one_that_is_asked_to_end(tmp_path: Path) -> None:
    for signum, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        with tempfile.TemporaryFile() as log:
            process = warm.start("swarm_hub", ["run", "-c", hub_dir(tmp_path)], stderr=log)
            while b"is ready" not in os.pread(log.fileno(), 100_000, 0):
                assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            process.send_signal(signum)
            assert process.wait(60) == code
            assert process.poll() == code


def test_a_free_port_is_not_given_twice() -> None:
    ports = [free_port() for _ in range(1000)]
    assert len(set(ports)) == 1000
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
