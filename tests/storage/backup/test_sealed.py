"""A sealed backup: whoever finds it has nothing, and whoever changes it is found out."""

from pathlib import Path

import pytest

from swarm_hub.exceptions import BackupError
from swarm_hub.storage.backup import sealed
from swarm_hub.storage.backup.backup import Source, make_sealed_backup
from swarm_hub.storage.backup.restore import restore, unsealed

PASSPHRASE = "correct horse battery staple"
CHUNK = 64


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(sealed, "_SCRYPT", {"n": 2, "r": 8, "p": 1})


def sealed_file(folder: Path, content: bytes) -> Path:
    (folder / "plain").write_bytes(content)
    target = folder / "file.sealed"
    with target.open("wb") as file:
        sealed.seal(folder / "plain", file, PASSPHRASE)
    return target


def opened(file: Path, passphrase: str = PASSPHRASE) -> bytes:
    target = file.with_name("opened")
    target.unlink(missing_ok=True)
    sealed.unseal(file, target, passphrase)
    return target.read_bytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
def test_what_was_sealed_comes_back(tmp_path: Path, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    assert opened(sealed_file(tmp_path, content)) == content


def test_another_passphrase_opens_nothing(tmp_path: Path) -> None:
    file = sealed_file(tmp_path, b"secret" * 50)
    assert b"secret" not in file.read_bytes()
    with pytest.raises(BackupError, match="the passphrase is another one"):
        opened(file, "correct horse")
    assert not (tmp_path / "opened").exists()


def test_any_change_cut_swap_or_addition_is_refused(tmp_path: Path) -> None:
    good = sealed_file(tmp_path, bytes(4 * CHUNK)).read_bytes()
    head, size = len(good) - 4 * (CHUNK + 16), CHUNK + 16
    chunks = [good[head + n * size : head + (n + 1) * size] for n in range(4)]
    wrong = [good[: head + n * size] for n in range(4)]
    wrong += [good[:-1], good + b"x", good + chunks[3], good[:20]]
    wrong += [good[:head] + b"".join([chunks[1], chunks[0], *chunks[2:]])]
    wrong += [good[:head] + b"".join(chunks[1:])]
    for place in range(len(sealed._MAGIC), len(good), 7):
        changed = bytearray(good)
        changed[place] ^= 1
        wrong.append(bytes(changed))
    for number, content in enumerate(wrong):
        file = tmp_path / "wrong"
        file.write_bytes(content)
        with pytest.raises(BackupError, match="nothing was restored"):
            opened(file)
        assert not (tmp_path / "opened").exists(), number


def test_a_hub_is_saved_sealed_and_restored(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    (folder / ".storage").mkdir(parents=True)
    (folder / "configuration.yaml").write_text("gateway:\n")
    (folder / ".storage" / "signer.key").write_bytes(b"the key of this hub".ljust(32, b"."))
    stick = tmp_path / "stick"
    source = Source(folder, "hub", folder / "swarm_hub.db")
    made = make_sealed_backup(source, stick / "hub.sealed", 1_800_000_000.0, PASSPHRASE)
    assert [path.name for path in stick.iterdir()] == ["hub.sealed"]
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert b"the key" not in made.path.read_bytes()
    # Nothing plain is left behind, there or here.
    assert {path.name for path in (folder / ".storage").iterdir()} == {"signer.key", "sealing.lock"}
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BackupError, match="swarm-hub restore asks for its passphrase"):
        restore(made.path, other)
    with unsealed(made.path, other, PASSPHRASE) as plain:
        restore(plain, other)
    assert (other / ".storage" / "signer.key").read_bytes().startswith(b"the key of this hub")
    assert not list(other.rglob("*.tar"))


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    (tmp_path / ".storage").mkdir()
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    with pytest.raises(BackupError, match="exists already"):
        make_sealed_backup(Source(tmp_path, "hub", None), there, 0.0, PASSPHRASE)
    assert there.read_bytes() == b"mine"
