"""Whether gateways can be reached, and how far the clock here is off theirs."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import time

import pytest

from swarm_hub.cli.diagnosis import Finding
from swarm_hub.cli.diagnosis import gateways as diagnosis
from swarm_hub.cli.diagnosis.gateways import gateways

PEER = "12D3KooWEtB5NA62o4dozcW327qL6ydecJqRfBZGX4xC6Ydsmp5q"


def worker(folder: Path, *ports: int, mdns: bool = False, roles: str = "worker:") -> Path:
    bootnodes = ", ".join(f"/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}" for port in ports)
    (folder / "configuration.yaml").write_text(
        f"{roles}\nmesh: {{bootnodes: [{bootnodes}], mdns: {str(mdns).lower()}}}\n"
    )
    return folder


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {each.subject: each for each in findings}


@contextmanager
def api(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> Iterator[int]:
    """Serve an API whose clock is ahead of the one here; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(401)
            self.send_header("Date", formatdate(time() + ahead_s, usegmt=True))
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(diagnosis, "DEFAULT_API_PORT", server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def nobody() -> Iterator[int]:
    """Return a port that is taken and that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_gateway_that_answers_is_ok_and_one_that_does_not_is_bad(
    tmp_path: Path, nobody: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        found = by_subject(gateways(worker(tmp_path, port, nobody)))
        assert found[f"gateway 127.0.0.1:{port}"].level == "ok"
        # One is enough to work for.
        assert found[f"gateway 127.0.0.1:{nobody}"].level == "warn"
    (alone,) = [
        each for each in gateways(worker(tmp_path, nobody)) if each.subject.startswith("gateway ")
    ]
    assert alone.level == "bad"
    assert "Connection refused" in alone.text


def test_a_worker_that_could_find_no_gateway_is_bad(tmp_path: Path) -> None:
    assert by_subject(gateways(worker(tmp_path)))["gateways"].level == "bad"
    assert by_subject(gateways(worker(tmp_path, mdns=True)))["gateways"].level == "ok"
    # A gateway works without others.
    assert "gateways" not in by_subject(gateways(worker(tmp_path, roles="gateway:")))


@pytest.mark.parametrize(
    ("ahead_s", "level", "said"),
    [
        (0.0, "ok", "within"),
        (300.0, "warn", "behind the clock of 127.0.0.1"),
        (-7200.0, "warn", "ahead of the clock of 127.0.0.1"),
    ],
)
def test_the_clock_is_compared_with_a_gateways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float, level: str, said: str
) -> None:
    with api(monkeypatch, ahead_s) as port:
        clock = by_subject(gateways(worker(tmp_path, port)))["clock"]
    assert (clock.level, said in clock.text) == (level, True), clock
    if ahead_s:
        assert abs(int(clock.text.split()[0]) - abs(ahead_s)) < 60


def test_a_clock_that_can_not_be_compared_is_only_told(tmp_path: Path) -> None:
    clock = by_subject(gateways(worker(tmp_path)))["clock"]
    assert (clock.level, "not compared" in clock.text) == ("ok", True)
