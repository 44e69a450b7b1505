"""From an invitation to a worker that runs a job; and configurations that were there before."""

import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub import bootstrap
from swarm_hub.cli.join import join
from swarm_hub.cli.swarm import LocalHub
from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.join_link import JoinLink, parse_join_link
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from swarm_hub.exceptions import HubError
from swarm_hub.runner import locked
from swarm_hub.util.yaml_loader import load_yaml
from tests.conftest import EXAMPLES
from tests.helpers import warm
from tests.helpers.command_line import Done, Run
from tests.helpers.swarms import local_swarm

PEER = peer_id_from_seed(b"p" * 32)
KEY = (b"k" * 32).hex()
ADDRESSES = tuple(f"/ip4/192.0.2.{last}/tcp/4001/p2p/{PEER}" for last in (1, 2))
TOKENS = ".storage/join_tokens.json"


def link(expires_in_s: float = 600, token: bytes = b"t" * 16) -> str:
    expires_at = int(time.time() + expires_in_s)
    return JoinLink("kitchen", PEER, ADDRESSES, bytes.fromhex(KEY), token, expires_at).to_text()


def join_here(text: str, folder: Path) -> Done:
    """Run `swarm-hub join` in this process, which is quicker, of a gateway that nobody asks."""
    done = CliRunner().invoke(join, [text, "-c", str(folder), "--offline"])
    error = f"{done.exception}" if isinstance(done.exception, HubError) else ""
    assert done.exit_code == 0 or error, done.exception
    return Done(done.exit_code, done.stdout, done.stderr + error)


@pytest.fixture
def gateway(tmp_path: Path, warm_hubs: None) -> Iterator[LocalHub]:
    """A gateway process that admits by invitation, with the token that `init` would write."""
    local = local_swarm(tmp_path / "swarm")
    hub = local.start_gateway()
    file = hub.folder / "configuration.yaml"
    hub.kill()
    file.write_text(file.read_text().replace("admission: open", "admission: token"))
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    hub.start()
    yield hub
    local.stop()


def until_it_works(run: Run, *arguments: object) -> str:
    """Run a command until it ends with 0; returns what it printed."""
    deadline = time.monotonic() + 30
    while (done := run(*arguments)).code != 0:
        assert time.monotonic() < deadline, done.err
        time.sleep(0.2)
    return done.out


def test_invite_join_run_and_the_worker_runs_a_job(
    run: Run, gateway: LocalHub, tmp_path: Path
) -> None:
    made = json.loads(until_it_works(run, "invite", "-c", gateway.folder, "--json"))
    text = made["link"]
    assert parse_join_link(text).addresses == tuple(made["addresses"]) == (gateway.address,)
    worker = tmp_path / "phone"
    joined = run("join", text, "-c", worker, "--name", "phone")
    assert joined.code == 0, joined.err
    assert joined.out == ""
    assert f"swarm-hub run -c {worker}" in joined.err
    token = parse_join_link(text).token.hex()
    assert token not in (worker / "configuration.yaml").read_text()
    assert token in (worker / TOKENS).read_text()
    assert stat.S_IMODE((worker / TOKENS).stat().st_mode) == 0o600
    assert run("check", "-c", worker).code == 0
    file = worker / "configuration.yaml"
    # The rules for phones in pockets are not for this machine.
    file.write_text(file.read_text().replace("charging_only: true", "charging_only: false"))
    process = warm.start("swarm_hub", ["run", "-c", worker])
    try:
        primes = EXAMPLES / "primes" / "primes.wat"
        done = run("submit", primes, "--range", "0:1000", "--watch", "-c", gateway.folder)
        assert (done.code, done.out) == (0, "168"), done.err
        (node,) = json.loads(run("node", "list", "-c", gateway.folder, "--json").out)
        assert (node["name"], node["state"]) == ("phone", "up")
        listed = run("invite", "--list", "-c", gateway.folder).out.splitlines()[1].split()
        assert (listed[1], listed[-1]) == ("used", node["node_id"])
    finally:
        process.terminate()
        process.wait(60)


def test_a_device_that_the_gateway_does_not_admit_is_told_so_and_configured_as_nothing(
    run: Run, gateway: LocalHub, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    link, revoked = (json.loads(until_it_works(run, "invite", "--json", *here)) for _ in range(2))
    assert run("invite", "--revoke", revoked["id"], *here).code == 0
    joined = run("join", link["link"], "-c", tmp_path / "phone", "--name", "phone", "--json")
    assert joined.code == 0, joined.err
    (node,) = json.loads(run("node", "list", *here, "--json").out)
    assert json.loads(joined.out) == {
        "gateway": gateway.peer_id,
        "gateway_name": parse_join_link(link["link"]).name,
        "node_id": node["node_id"],
        "name": "phone",
        "admitted": True,
        "config": str(tmp_path / "phone"),
    }
    assert node["name"] == "phone"
    # The same device may join again: whoever was admitted stays so.
    assert run("join", link["link"], "-c", tmp_path / "phone").code == 0
    refused = (
        (link, "was used by another device"),
        (revoked, "knows no such invitation"),
    )
    for made, said in refused:
        done = run("join", made["link"], "-c", tmp_path / "other")
        assert (done.code, said in done.err, "Joined" in done.err) == (4, True, False), done.err
        assert not (tmp_path / "other").exists()
    gateway.kill()
    there = tmp_path / "there"
    there.mkdir()
    (there / "configuration.yaml").write_text("worker:\n")
    for folder in (tmp_path / "other", there):
        done = run("join", link["link"], "-c", folder)
        assert (done.code, "can't be reached" in done.err) == (3, True), done.err
        assert "Connection refused" in done.err
        assert "--offline" in done.err
    assert not (tmp_path / "other").exists()
    assert [each.name for each in there.iterdir()] == ["configuration.yaml"]
    assert (there / "configuration.yaml").read_text() == "worker:\n"
    offline = run("join", link["link"], "-c", tmp_path / "other", "--offline")
    assert (offline.code, "was not asked" in offline.err) == (0, True)


def test_an_invitation_is_printed_alone_on_stdout_listed_and_revoked(
    run: Run, gateway: LocalHub
) -> None:
    here = ("-c", gateway.folder)
    until_it_works(run, "invite", "--list", *here)
    more = "/dns4/home.example/tcp/4001"
    done = run("invite", "--address", more, "--expires", "10m", *here)
    assert done.code == 0
    made = parse_join_link(done.out)
    assert done.out.count("\n") == 1
    assert made.addresses[0].partition("/p2p/")[0] == more
    assert 590 < made.expires_at - time.time() <= 600
    assert "█" not in done.err
    (listed,) = json.loads(run("invite", "--list", "--json", *here).out)
    assert listed["state"] == "open"
    assert made.token.hex() not in json.dumps(listed)
    assert run("invite", "--revoke", listed["id"], *here).code == 0
    assert run("invite", "--list", *here).out == ""
    again = run("invite", "--revoke", listed["id"], *here)
    assert (again.code, "there is no invitation" in again.err) == (1, True)
    assert run("invite", "--expires", "soon", *here).code == 2
    assert run("invite", "--address", "nonsense", *here).code == 1


def test_a_terminal_shows_the_link_as_a_qr_code(run: Run, gateway: LocalHub) -> None:
    until_it_works(run, "invite", "--list", "-c", gateway.folder)
    for options, columns, drawn in (([], 120, True), (["--no-qr"], 120, False), ([], 40, False)):
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "swarm_hub", "invite", "-c", str(gateway.folder), *options],
            stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True,
            env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"It leads to" not in shown:
            shown += os.read(ours, 65536)
        os.close(ours)
        assert ("█▀" in shown.decode()) is drawn
        parse_join_link(done.stdout.decode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.com", "is not an invitation"),
        (link()[:90], "incomplete or was changed on its way"),
        (link(-10), "the invitation expired"),
    ],
)
def test_a_bad_link_is_one_line_and_leaves_nothing(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    done = run("join", text, "-c", tmp_path / "hub")
    assert (done.code, said in done.err, "Traceback" in done.err) == (1, True, False)
    assert not (tmp_path / "hub").exists()


def test_joining_a_second_gateway_adds_it_and_keeps_the_first(tmp_path: Path) -> None:
    other = peer_id_from_seed(b"q" * 32)
    address = f"/dns4/home.example/tcp/4001/p2p/{other}"
    second = JoinLink("b", other, (address,), b"m" * 32, b"u" * 16, int(time.time() + 60))
    for text in (link(), second.to_text(), link(token=b"v" * 16)):
        assert join_here(text, tmp_path).code == 0
    _, planned = bootstrap.check(tmp_path)
    configs = {each.manifest.domain: each.config for each in planned.components}
    assert configs["mesh"].bootnodes == (*ADDRESSES, address)  # type: ignore[attr-defined]
    assert configs["signer"].trust == (b"k" * 32, b"m" * 32)  # type: ignore[attr-defined]
    kept = {each["gateway"]: each["token"] for each in json.loads((tmp_path / TOKENS).read_bytes())}
    assert kept == {PEER: (b"v" * 16).hex(), other: (b"u" * 16).hex()}


OLD = "12D3KooWAbupxSxPEv8LNCBwps8wuiTkXw2WA2k7WPvX7fdcYXUz"
OLD_NODE = f"/ip4/10.0.0.1/tcp/4001/p2p/{OLD}"
OLD_KEY = "ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        "worker:\n",
        "# only a comment\n",
        "",
        "hub: {name: x}   # mine\nworker: {slots: 2}  # two\n",
        "worker:\nsigner:\nmesh:\n",
        "worker:\nsigner:  # whom\nmesh:\n  # where\n  mdns: false\n",
        "worker:\nsigner: {}\nmesh: {listen: [/ip4/0.0.0.0/tcp/0]}\n",
        "worker:\nsigner: {trust: []}\nmesh: {bootnodes: [], mdns: true}\n",
        f"worker:\nsigner: {{trust: ['{OLD_KEY}']}}\nmesh:\n  bootnodes: [{OLD_NODE}]  # old\n",
        f"worker:\nsigner:\n  trust:\n    - {OLD_KEY}  # the first\n"
        f"mesh:\n  bootnodes:\n  - {OLD_NODE}\n  mdns: true\n",
        f"mesh:\n  bootnodes:\n  - {OLD_NODE}",
        "worker:\nsigner:\n  trust:\n  ttl: 30\nmesh:\n  bootnodes: # none yet\n",
        f"gateway:\nworker:\nsigner:\n  ttl: 30\n  trust: [\n    {OLD_KEY},\n  ]\n",
        f"worker:\r\nsigner:\r\n  trust: ['{OLD_KEY}']\r\n",
        f"worker:\nmesh:\n  bootnodes: [{OLD_NODE}]\nsigner:\n    trust: [{KEY}]\n",
    ],
)  # fmt: skip
def test_a_configuration_that_is_there_is_added_to(tmp_path: Path, text: str) -> None:
    file = tmp_path / "configuration.yaml"
    file.write_bytes(text.encode())
    file.chmod(0o640)
    before = load_yaml(file, tmp_path) or {}
    done = join_here(link(), tmp_path)
    after = load_yaml(file, tmp_path)
    assert done.code == 0, done.err
    # Nothing that was there is gone, and no comment either.
    for section, value in before.items():
        for key, old in (value or {}).items():
            found = after[section][key]
            assert (
                found[: len(old or [])] == (old or []) if isinstance(found, list) else found == old
            )
    assert all(line in file.read_text() for line in text.splitlines() if line.startswith("#"))
    _, planned = bootstrap.check(tmp_path)
    configs = {each.manifest.domain: each.config for each in planned.components}
    assert "worker" in configs
    assert configs["mesh"].bootnodes[-2:] == ADDRESSES  # type: ignore[attr-defined]
    assert configs["signer"].trust.count(b"k" * 32) == 1  # type: ignore[attr-defined]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    # A second time there is nothing left to add.
    extended = file.read_bytes()
    assert join_here(link(), tmp_path).code == 0
    assert file.read_bytes() == extended


def test_what_init_made_is_added_to(run: Run, tmp_path: Path) -> None:
    assert run("init", "-c", tmp_path).code == 0
    done = join_here(link(), tmp_path)
    assert done.code == 0, done.err
    assert f"Added to mesh: bootnodes: {ADDRESSES[0]}" in done.err


@pytest.mark.parametrize(
    "text",
    [
        "worker:\nmesh: !include mesh.yaml\n",
        "worker:\nsigner: {trust: !include trust.yaml}\n",
        "{worker: , mesh: {mdns: false}}\n",
        "worker:\nx: &none []\nsigner:\n  trust: &a []\nmesh:\n  bootnodes: *a\n",
    ],
)
def test_what_can_t_be_added_to_safely_is_left_with_the_lines_to_add(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "mesh.yaml").write_text("mdns: false\n")
    (tmp_path / "trust.yaml").write_text("[]\n")
    file = tmp_path / "configuration.yaml"
    file.write_text(text)
    done = join_here(link(), tmp_path)
    assert (done.code, file.read_text()) == (1, text)
    assert "is left as it is" in done.err
    for line in ("signer:", "trust:", f'- "{KEY}"', "bootnodes:", *(f'- "{a}"' for a in ADDRESSES)):
        assert line in done.err
    assert (tmp_path / TOKENS).exists()
    assert sorted(each.name for each in tmp_path.glob(".*")) == [".storage"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worker:\nmesh: {transport: loopback}\n", "has no network"),
        ("gateway:\nstorage: {url: 'postgresql://h/d'}\n", "needs one of its own"),
        ("worker: [\n", "configuration.yaml"),
    ],
)
def test_a_hub_that_can_t_be_such_a_worker_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "configuration.yaml").write_text(text)
    done = join_here(link(), tmp_path)
    assert (done.code, said in done.err, "Traceback" in done.err) == (1, True, False)
    assert (tmp_path / "configuration.yaml").read_text() == text
    assert not (tmp_path / TOKENS).exists()


def test_a_gateway_does_not_join_itself_nor_a_running_hub_anything(
    run: Run, tmp_path: Path
) -> None:
    run("init", "-c", tmp_path)
    peer = json.loads(run("key", "show", "-c", tmp_path, "--json").out)["peer_id"]
    own = JoinLink(
        "x", peer, (f"/ip4/192.0.2.1/tcp/1/p2p/{peer}",), b"k" * 32, b"t" * 16, 2**33
    ).to_text()
    done = join_here(own, tmp_path)
    assert (done.code, "is the gateway that made this invitation" in done.err) == (1, True)
    with locked(tmp_path):
        done = join_here(link(), tmp_path)
    assert (done.code, "already runs on this directory" in done.err) == (1, True)


def test_joining_again_after_the_directory_was_copied_is_refused_by_nobody(tmp_path: Path) -> None:
    """A token that could not be read is told, never replaced silently."""
    assert join_here(link(), tmp_path / "a").code == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / TOKENS).write_text("{")
    done = join_here(link(), tmp_path / "b")
    assert (done.code, "join again with a new invitation" in done.err) == (1, True)
