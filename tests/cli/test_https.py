"""Commands and a hub with a self-signed certificate, as processes, with the real mesh."""

import re
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import free_port
from tests.helpers.command_line import Run
from tests.helpers.hub_process import running

CONFIGURATION = """\
gateway:
api: {{host: 0.0.0.0, port: {port}, tls: {{self_signed: true}}}}
mesh: {{listen: [/ip4/127.0.0.1/tcp/0], mdns: false}}
"""


@pytest.fixture
def port(tmp_path: Path) -> int:
    port = free_port()
    (tmp_path / "configuration.yaml").write_text(CONFIGURATION.format(port=port))
    return port


def test_a_command_elsewhere_needs_the_fingerprint_that_the_hub_shows(
    run: Run, tmp_path: Path, port: int
) -> None:
    with running(tmp_path):
        shown = run("status", "-c", tmp_path).out
        (pin,) = re.findall(r"API's certificate: (sha256=[0-9a-f]{64})\n", shown)
        created = run("token", "create", "laptop", "-c", tmp_path)
        assert re.search(rf"reach this hub at https://\S+:{port}#{pin}\n", created.err)
        elsewhere = tmp_path / "elsewhere"
        token = ("--token", created.out.strip(), "-c", elsewhere)
        address = f"https://127.0.0.1:{port}"
        done = run("job", "list", "--url", f"{address}#{pin}", *token)
        assert (done.code, done.out) == (0, "")
        assert run("job", "list", *token, SWARM_HUB_URL=f"{address}#{pin}").code == 0
        done = run("job", "list", "--url", address, *token)
        assert done.code == 1
        assert "append the fingerprint that `swarm-hub status` shows" in done.err
        done = run("job", "list", "--url", f"{address}#sha256={'0' * 64}", *token)
        assert done.code == 1
        assert "another key answers there" in done.err
        assert "Traceback" not in done.err
        # On the device neither is needed.
        assert run("job", "list", "-c", tmp_path).code == 0
