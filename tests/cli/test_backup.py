"""`backup` and `restore` as a user types them, beside a running hub and without one."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from swarm_hub.const import RESTORE_FILE
from swarm_hub.storage.backup import restore as restoring
from swarm_hub.storage.backup import unfinished
from tests.conftest import Swarm
from tests.helpers.backups import CONFIG, forged, killed_at
from tests.helpers.command_line import Done, Run
from tests.helpers.hub_process import hub_dir, running
from tests.helpers.rest import call, submit

Beside = Callable[..., Awaitable[Done]]


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    """A directory that `init` made."""
    assert run("init", "-c", tmp_path / "hub", "--name", "kitchen tablet").code == 0
    return tmp_path / "hub"


async def test_a_running_hub_is_saved_and_comes_back_elsewhere(
    swarm: Swarm, run_beside: Beside, modules: dict[str, bytes], tmp_path: Path
) -> None:
    gateway = await swarm.gateway()
    dataset = b"".join(n.to_bytes(4, "little") for n in range(20_000))
    _, body = await submit(gateway, modules["sum"], dataset)
    done = await run_beside("backup", "-c", gateway.folder)
    assert (done.code, done.err) == (0, "")
    path = Path(done.out.strip())
    assert path.parent == gateway.folder / "backups"
    code, _ = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert code == 202

    restored = await run_beside("restore", path, "-c", tmp_path / "other", "--json")
    assert restored.code == 0, restored.err
    answer = json.loads(restored.out)
    assert (answer["db_id"], answer["replaced"]) == (gateway.hub.store.db_id, None)
    with closing(sqlite3.connect(tmp_path / "other" / "swarm_hub.db")) as database:
        assert database.execute("SELECT id FROM jobs").fetchall() == [(body["job_id"],)]
    assert len(list((tmp_path / "other" / "blobs").glob("??/*"))) == 1


def test_the_target_is_the_default_folder_a_folder_or_a_file(
    run: Run, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    expected = {
        (): made / "backups",
        ("--to", str(tmp_path / "there")): tmp_path / "there",
        ("--to", f"{tmp_path}/new/"): tmp_path / "new",
    }
    for options, folder in expected.items():
        done = run("backup", "-c", made, *options)
        path = Path(done.out.strip())
        assert (done.code, path.parent) == (0, folder), done.err
        assert path.name.startswith("swarm-hub-kitchen_tablet-")
        assert path.is_file()
    named = tmp_path / "my.tar"
    done = run("backup", "-c", made, "--to", named, "--json")
    answer = json.loads(done.out)
    assert (answer["path"], answer["problems"]) == (str(named), [])
    assert answer["size_bytes"] == named.stat().st_size
    done = run("backup", "-c", made, "--to", named)
    assert (done.code, "exists already" in done.err) == (1, True)


def test_a_lost_blob_ends_with_1_names_it_and_saves_the_rest(
    run: Run, made: Path, tmp_path: Path
) -> None:
    sha = "ab" * 32
    with running(hub_dir(made)) as hub:
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(30) == 0
    with closing(sqlite3.connect(made / "swarm_hub.db")) as database, database:
        database.execute("INSERT INTO blobs VALUES (?, 70000, NULL, 0)", (sha,))
    done = run("backup", "-c", made)
    assert (done.code, f"{sha}: not saved: it is missing" in done.err) == (1, True)
    restored = run("restore", done.out.strip(), "-c", tmp_path / "other")
    assert (restored.code, restored.out) == (0, "")
    assert f"The backup lacks blobs/ab/{sha}" in restored.err


def test_a_running_hub_is_not_replaced(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    with running(hub_dir(folder)) as hub:
        path = run("backup", "-c", folder).out.strip()
        assert path
        before = (folder / "configuration.yaml").read_bytes()
        done = run("restore", path, "-c", folder, "--yes")
        assert done.code == 1
        assert f"another hub (process {hub.pid}) already runs on this directory" in done.err
        assert (folder / "configuration.yaml").read_bytes() == before


def test_a_hub_that_is_there_is_moved_aside_only_when_somebody_says_so(
    run: Run, made: Path
) -> None:
    path = run("backup", "-c", made).out.strip()
    (made / "configuration.yaml").write_text("gateway:  # changed\n")
    done = run("restore", path, "-c", made)
    assert (done.code, "add --yes" in done.err) == (2, True)
    assert "changed" in (made / "configuration.yaml").read_text()
    done = run("restore", path, "-c", made, "--yes", "--json")
    assert done.code == 0, done.err
    replaced = Path(json.loads(done.out)["replaced"])
    assert "changed" in (replaced / "configuration.yaml").read_text()
    assert "kitchen tablet" in (made / "configuration.yaml").read_text()
    assert run("check", "-c", made).code == 0


@pytest.mark.parametrize(("answer", "code", "restored"), [("y\n", 0, True), ("n\n", 130, False)])
def test_on_a_terminal_it_asks(
    run: Run, made: Path, answer: str, code: int, restored: bool
) -> None:
    path = run("backup", "-c", made).out.strip()
    (made / "configuration.yaml").write_text("gateway:  # changed\n")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarm_hub", "restore", path, "-c", str(made)],
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.write(ours, answer.encode())
        _, err = process.communicate(timeout=90)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert "Move its files aside and restore kitchen tablet as of 20" in err
    assert ("changed" not in (made / "configuration.yaml").read_text()) == restored


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("none.tar", 2, "does not exist"),
        ("text.tar", 1, "this is not a backup of a hub"),
        ("cut.tar", 1, "the backup is damaged or was changed"),
        ("evil.tar", 1, "has no place in a hub"),
        ("ok.tar", 1, "neither empty nor a hub's"),
    ],
)
def test_what_can_not_be_restored_is_one_line_and_changes_nothing(
    run: Run, made: Path, tmp_path: Path, name: str, code: int, said: str
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    run("backup", "-c", made, "--to", files / "ok.tar")
    (files / "text.tar").write_text("hello " * 200)
    (files / "cut.tar").write_bytes((files / "ok.tar").read_bytes()[:-600])
    forged(files / "evil.tar", lambda m: m, {**CONFIG, "config/../../x.yaml": b""})
    target = tmp_path / "target"
    target.mkdir()
    (target / "photo.jpg").write_text("mine")
    done = run("restore", files / name, "-c", target, "--yes")
    assert (done.code, said in done.err) == (code, True), done.err
    assert "Traceback" not in done.err
    assert [path.name for path in target.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("command", [["key", "show"], ["token", "list"], ["backup"]])
def test_a_command_on_a_half_restored_directory_finishes_the_restore(
    run: Run, made: Path, command: list[str]
) -> None:
    path = Path(run("backup", "-c", made).out.strip())
    step = 0
    while not (made / RESTORE_FILE).exists():
        assert killed_at(step, lambda: restoring.restore(path, made))
        step += 1
    steps = 0
    while (made / "configuration.yaml").exists():
        assert killed_at(steps, lambda: unfinished.finish_restore(made))
        steps += 1
    done = run(*command, "-c", made)
    assert done.code == 0, done.err
    assert not (made / RESTORE_FILE).exists()
    assert run("check", "-c", made).code == 0


def test_a_mistake_in_the_storage_section_saves_no_other_database(run: Run, made: Path) -> None:
    (made / "configuration.yaml").write_text("gateway:\nstorage:\n  url: mysql://x\n")
    done = run("backup", "-c", made)
    assert (done.code, done.out) == (1, "")
    assert "configuration.yaml:3: storage → url: expected " in done.err
    assert not (made / "backups").exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://hub:se%20cret@db.lan:5433/swarm?sslmode=require&password=se%20cret",
         "'postgresql://hub@db.lan:5433/swarm?sslmode=require'"),
        ("postgresql://hub:secret@[::1]/swarm", "'postgresql://hub@[::1]/swarm'"),
        ("postgresql://hub:secret@db/swarm", "postgresql://hub@db/swarm"),
        ("postgresql://hub:secret@a,b:5433/swarm?target_session_attrs=read-write&sslkey=key.pem",
         "'postgresql://hub@a,b:5433/swarm?target_session_attrs=read-write&sslkey=key.pem'"),
        ("postgresql:///swarm?host=%2Frun%2Fpg", "'postgresql:///swarm?host=%2Frun%2Fpg'"),
        ("postgresql://db/it's", "'postgresql://db/it'\"'\"'s'"),
    ],
)  # fmt: skip
def test_for_another_database_the_way_to_save_it_is_told_without_its_password(
    run: Run, made: Path, url: str, shown: str
) -> None:
    with (made / "configuration.yaml").open("a") as file:
        file.write(f"storage: {json.dumps({'url': url})}\n")
    done = run("backup", "-c", made)
    assert done.code == 0, done.err
    assert f"pg_dump --format=custom --file=swarm_hub.dump {shown}\n" in done.err
    assert "secret" not in done.err
    manifest = restoring.read_manifest(Path(done.out.strip()))
    assert manifest.database is None
    assert "storage/signer.key" in [each.name for each in manifest.members]


def test_a_backup_is_sealed_with_a_passphrase_and_restored_with_it(
    run: Run, made: Path, tmp_path: Path
) -> None:
    to = ("--passphrase", "--to", f"{tmp_path / 'files'}/", "-c", made)
    unasked = run("backup", *to)
    assert (unasked.code, "set SWARM_HUB_PASSPHRASE" in unasked.err) == (2, True)
    assert "at least 8 characters" in run("backup", *to, SWARM_HUB_PASSPHRASE="short").err
    done = run("backup", *to, SWARM_HUB_PASSPHRASE="long enough")
    assert done.code == 0, done.err
    file = Path(done.out.strip())
    assert file.suffix == ".sealed"
    key = (made / ".storage" / "signer.key").read_bytes()
    assert key not in file.read_bytes()
    wrong = run("restore", file, "-c", tmp_path / "wrong", SWARM_HUB_PASSPHRASE="another one")
    assert (wrong.code, "the passphrase is another one" in wrong.err) == (1, True)
    other = tmp_path / "other"
    assert run("restore", file, "-c", other, SWARM_HUB_PASSPHRASE="long enough").code == 0
    assert (other / ".storage" / "signer.key").read_bytes() == key


def test_tokens_that_were_revoked_since_come_back_only_on_demand(
    run: Run, made: Path, tmp_path: Path
) -> None:
    there = ("-c", made)
    token = json.loads(run("token", "create", "phone", *there, "--json").out)
    file = Path(run("backup", "--to", tmp_path / "saved.tar", *there).out.strip())
    assert run("token", "revoke", token["id"], *there).code == 0
    done = run("restore", file, "--yes", *there)
    assert "Tokens that were revoked since stay so: phone" in done.err
    assert token["id"] not in run("token", "list", *there).out
    assert run("restore", file, "--yes", "--tokens", *there).code == 0
    assert token["id"] in run("token", "list", *there).out
