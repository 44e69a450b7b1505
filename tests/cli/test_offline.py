"""Commands on a configuration directory, without a hub."""

import json
import logging
import sys
from pathlib import Path

import click
import pytest

from swarm_hub import bootstrap
from swarm_hub.cli import main as main_group
from swarm_hub.cli import options, run_command
from swarm_hub.util.printable import PrintableFormatter
from tests.conftest import EXAMPLES
from tests.helpers.command_line import Run


def test_help_lists_every_command(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for name in main_group.list_commands(None):  # type: ignore[arg-type]
        assert f"  {name} " in done.out


def test_nothing_and_nonsense_are_usage_errors(run: Run) -> None:
    for arguments in ([], ["sumbit"], ["submit"], ["run", "--nope"], ["job", "show"]):
        done = run(*arguments)
        assert done.code == 2, arguments
        assert "Traceback" not in done.err
    assert "did you mean submit?" in run("sumbit").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0, done.err
    assert "_SWARM_HUB_COMPLETE=" in done.out
    at = "ev" if shell == "fish" else "2"
    environ = {"COMP_WORDS": "swarm-hub job ev", "COMP_CWORD": at}
    environ["_SWARM_HUB_COMPLETE"] = f"{shell}_complete"
    assert "events" in run(**environ).out


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8471", "http://127.0.0.1:8471"),
        ("hub.local", "http://hub.local:8470"),
        ("[::1]", "http://[::1]:8470"),
        ("http://hub:80/", "http://hub:80"),
        ("https://home.example/hub/", "https://home.example/hub"),
        ("https://hub:1#sha256=00ff", "https://hub:1#sha256=00ff"),
        ("unix:///run/hub/api.sock", "unix:///run/hub/api.sock"),
        ("kitchen, attic:81", "http://kitchen:8470,http://attic:81"),
    ],
)
def test_an_address_needs_neither_scheme_nor_port(text: str, url: str) -> None:
    assert options._address(None, None, text) == url


def test_the_help_of_run_names_its_signals_and_its_log(run: Run) -> None:
    said = run("run", "--help").out
    for word in ("Ctrl-C", "SIGTERM", "SIGKILL", "stderr", "--log"):
        assert word in said, word


@pytest.mark.parametrize("role", ["both", "gateway", "worker"])
def test_init_makes_a_directory_that_checks(run: Run, tmp_path: Path, role: str) -> None:
    folder = tmp_path / "hub"
    name = 'a "strange" name: {x}'
    done = run("init", "-c", folder, "--role", role, "--name", name, "--json")
    assert done.code == 0, done.err
    shown = json.loads(run("key", "show", "-c", folder, "--json").out)
    assert json.loads(done.out) == {
        "config": str(folder),
        "name": name,
        "role": role,
        "node_id": shown["peer_id"],
        "public_key": shown["public_key"],
    }
    configuration, planned = bootstrap.check(folder)
    assert configuration.hub.name == name
    domains = {each.manifest.domain for each in planned.components}
    assert ("gateway" in domains, "worker" in domains) == (role != "worker", role != "gateway")
    for private in (
        ".",
        "configuration.yaml",
        ".storage",
        ".storage/identity.key",
        ".storage/signer.key",
        ".storage/admin.token",
    ):
        assert (folder / private).stat().st_mode & 0o077 == 0
    assert run("check", "-c", folder).code == 0


def test_init_refuses_a_directory_that_is_one_already(run: Run, tmp_path: Path) -> None:
    assert run("init", "-c", tmp_path).code == 0
    before = (tmp_path / "configuration.yaml").read_bytes()
    done = run("init", "-c", tmp_path, "--role", "worker")
    assert done.code == 1
    assert "exists already" in done.err
    assert (tmp_path / "configuration.yaml").read_bytes() == before


def test_init_takes_what_a_worker_needs(run: Run, tmp_path: Path) -> None:
    gateway = tmp_path / "gateway"
    run("init", "-c", gateway)
    keys = json.loads(run("key", "show", "-c", gateway, "--json").out)
    bootnode = f"/ip4/192.0.2.1/tcp/4001/p2p/{keys['peer_id']}"
    done = run(
        "init", "-c", tmp_path / "w", "--role", "worker", "--bootnode", bootnode,
        "--trust", keys["public_key"],
    )  # fmt: skip
    assert done.code == 0
    _, planned = bootstrap.check(tmp_path / "w")
    configs = {each.manifest.domain: each.config for each in planned.components}
    assert configs["signer"].trust == (bytes.fromhex(keys["public_key"]),)  # type: ignore[attr-defined]
    assert configs["mesh"].bootnodes == (bootnode,)  # type: ignore[attr-defined]


def test_init_where_nothing_can_be_written_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("init", "-c", tmp_path / "file" / "hub")
    assert done.code == 1
    assert "the directory can't be written" in done.err
    assert "Traceback" not in done.err


def test_check_names_every_problem_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n  redundency: 1\n  admission: x\n")
    done = run("check", "-c", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "configuration.yaml:2: gateway → redundency: unknown key" in done.err
    assert "configuration.yaml:3: gateway → admission: expected one of open" in done.err


def test_tokens_are_made_listed_and_revoked(run: Run, tmp_path: Path) -> None:
    run("init", "-c", tmp_path)
    made = run("token", "create", "laptop", "-c", tmp_path, "--scope", "read")
    assert made.code == 0
    assert made.out.startswith("swh_")
    as_json = json.loads(run("token", "create", "phone", "-c", tmp_path, "--json").out)
    assert (as_json["name"], as_json["scope"]) == ("phone", "submit")
    listed = run("token", "list", "-c", tmp_path)
    assert "laptop" in listed.out
    assert made.out.strip() not in listed.out
    names = [
        each["name"] for each in json.loads(run("token", "list", "-c", tmp_path, "--json").out)
    ]
    assert names == ["admin", "laptop", "phone"]
    assert run("token", "revoke", as_json["id"], "-c", tmp_path).code == 0
    assert "phone" not in run("token", "list", "-c", tmp_path).out
    again = run("token", "revoke", as_json["id"], "-c", tmp_path)
    assert (again.code, "there is no token" in again.err) == (1, True)
    assert run("token", "create", "x", "-c", tmp_path, "--scope", "root").code == 2


def test_key_show_is_the_same_each_time(run: Run, tmp_path: Path) -> None:
    run("init", "-c", tmp_path)
    first = run("key", "show", "-c", tmp_path)
    assert first.out == run("key", "show", "-c", tmp_path).out
    shown = json.loads(run("key", "show", "-c", tmp_path, "--json").out)
    assert set(shown) == {"peer_id", "public_key", "kid", "overlapping", "revoked"}
    assert all(shown[name] in first.out for name in ("peer_id", "public_key", "kid"))


def test_a_key_is_rotated_and_the_old_one_revoked(run: Run, tmp_path: Path) -> None:
    here = ("-c", tmp_path)
    run("init", *here)
    before = json.loads(run("key", "show", *here, "--json").out)
    own = run("key", "revoke", before["kid"], *here)
    assert (own.code, "first make another: swarm-hub key rotate" in own.err) == (1, True)
    made = json.loads(run("key", "rotate", "--overlap", "2d", "--json", *here).out)
    assert made["old_kid"] == before["kid"]
    assert (tmp_path / ".storage" / "signer.key").stat().st_mode & 0o077 == 0
    assert run("key", "revoke", before["kid"], "--reason", "lost", *here).code == 0
    again = run("key", "revoke", before["kid"], "--json", *here)
    assert json.loads(again.out) == {"kid": before["kid"], "revoked": True}
    # By the whole key too, and once is enough.
    again = run("key", "revoke", before["public_key"], *here)
    assert (again.code, "is already revoked" in again.err) == (0, True)
    after = json.loads(run("key", "show", *here, "--json").out)
    assert after["peer_id"] == before["peer_id"]
    assert (after["kid"], after["public_key"]) == (made["kid"], made["public_key"])
    assert after["overlapping"] == [{"kid": before["kid"], "until": made["until"]}]
    assert [(each["kid"], each["reason"]) for each in after["revoked"]] == [(before["kid"], "lost")]
    shown = run("key", "show", *here).out
    assert f"overlapping {before['kid']} until" in shown
    assert shown.rstrip().endswith("lost")
    # A backup has all of it.
    backup = run("backup", *here)
    assert backup.code == 0, backup.err
    assert run("restore", backup.out.strip(), "-c", tmp_path / "again").code == 0
    assert run("key", "show", "-c", tmp_path / "again").out == shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["rotate", "--overlap", "soon"],
        ["rotate", "--overlap", "91d"],
        ["revoke", "12345"],
        ["revoke", "g" * 16],
        ["revoke", "0" * 16, "--reason", "x" * 65],
    ],
)
def test_a_key_command_that_makes_no_sense_is_exit_code_2(
    run: Run, tmp_path: Path, arguments: list[str]
) -> None:
    run("init", "-c", tmp_path)
    before = run("key", "show", "-c", tmp_path).out
    assert run("key", *arguments, "-c", tmp_path).code == 2
    assert run("key", "show", "-c", tmp_path).out == before


def test_a_rotation_that_was_cut_short_leaves_the_old_key(run: Run, tmp_path: Path) -> None:
    """The word is on disk, the key it leads to was not written."""
    run("init", "-c", tmp_path)
    before = run("key", "show", "-c", tmp_path).out
    key = (tmp_path / ".storage" / "signer.key").read_bytes()
    assert run("key", "rotate", "-c", tmp_path).code == 0
    (tmp_path / ".storage" / "signer.key").write_bytes(key)
    assert run("key", "show", "-c", tmp_path).out == before
    assert run("key", "rotate", "-c", tmp_path).code == 0
    assert run("key", "show", "-c", tmp_path).out.count("overlapping") == 1


@pytest.mark.parametrize("command", ["run", "key show", "token list"])
def test_a_directory_without_configuration_says_how_to_make_one(
    run: Run, tmp_path: Path, command: str
) -> None:
    done = run(*command.split(), "-c", tmp_path)
    assert done.code == 1
    assert f"swarm-hub init -c {tmp_path}" in done.err
    assert "Traceback" not in done.err


def test_inspect_says_how_a_module_is_called(run: Run, tmp_path: Path) -> None:
    done = run("inspect", EXAMPLES / "primes" / "primes.wat")
    assert done.code == 0
    assert "abi      range: map" in done.out
    report = json.loads(run("inspect", EXAMPLES / "echo" / "echo.wat", "--json").out)
    assert report["abis"] == [{"abi": "bytes", "entries": ["map"]}]
    assert report["refused"] is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("image.wasm", b"\x89PNG", "image.wasm: This is not a Wasm module"),
        ("add.py", b"print(1)", "a script needs --runtime, or its interpreter: submit --with"),
        ("broken.wat", b"(module\n(func", "line 2, column 6: expected `)`"),
        ("bytes.wat", b"\xff\xfe", "Give a compiled module or WAT text"),
    ],
)
def test_inspect_of_what_is_no_module_says_what_it_is(
    run: Run, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = run("inspect", tmp_path / name)
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err


def test_inspect_of_a_module_that_no_job_can_call_ends_with_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.wat").write_text("(module)")
    done = run("inspect", tmp_path / "empty.wat")
    assert (done.code, "no export can be called" in done.out) == (1, True)
    assert run("inspect", tmp_path / "none.wat").code == 2


def test_a_directory_of_another_user_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["swarm-hub"])

    def refused() -> None:
        raise PermissionError(13, "Permission denied", "/home/ada/hub/.storage/restore.json")

    with pytest.raises(SystemExit) as ended:
        run_command(click.Command("run", callback=refused), prog_name="swarm-hub")
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "restore.json: this user may not use it" in said


def test_nothing_that_a_stranger_wrote_acts_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options.echo("a\x1b[2J\x07\u202eb\x9b31m")
    options.note("c\x1b]0;x\x07")
    said = capsys.readouterr()
    assert said.out == "a\\x1b[2J\\x07\\u202eb\\x9b31m\n"
    assert said.err == "c\\x1b]0;x\\x07\n"
    record = logging.LogRecord(
        "x", logging.INFO, "", 0, "%s said", ("\x1b[2J\nERROR forged",), None
    )
    line = PrintableFormatter("%(levelname)s %(message)s").format(record)
    assert line == "INFO \\x1b[2J\\nERROR forged said"
