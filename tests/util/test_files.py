"""Files that are whole after a crash, and keys that stay private."""

from pathlib import Path

import pytest

from swarm_hub.exceptions import HubError
from swarm_hub.util.files import load_or_create_key, write_atomic


def test_a_key_is_made_once_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "signer.key"
    first = load_or_create_key(path, "key")
    assert len(first) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_key(path, "key") == first


def test_a_key_that_others_can_read_is_refused_with_the_command_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "signer.key"
    load_or_create_key(path, "key")
    path.chmod(0o644)
    with pytest.raises(HubError, match=f"run: chmod 600 {path}"):
        load_or_create_key(path, "key")


def test_a_key_of_another_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signer.key"
    path.write_bytes(b"x" * 31)
    path.chmod(0o600)
    with pytest.raises(HubError, match="exactly 32 bytes, found 31"):
        load_or_create_key(path, "key")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
