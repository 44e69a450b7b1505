"""Where a client finds a hub and a token, and how an address may be written."""

from pathlib import Path

import pytest

from swarm_hub import credentials
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from swarm_hub.exceptions import HubError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8470", "http://127.0.0.1:8470"),
        ("kitchen", "http://kitchen:8470"),
        ("kitchen:81", "http://kitchen:81"),
        ("kitchen/", "http://kitchen:8470"),
        ("[::1]:81", "http://[::1]:81"),
        ("http://kitchen/", "http://kitchen"),
        ("HTTP://kitchen:81", "http://kitchen:81"),
        ("https://kitchen:8470#sha256=00ff", "https://kitchen:8470#sha256=00ff"),
        ("unix:///run/hub,2/api.sock", "unix:///run/hub,2/api.sock"),
    ],
)
def test_an_address_may_leave_out_what_is_usual(text: str, url: str) -> None:
    assert credentials.read_addresses(text) == [url]


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "ftp://kitchen", "kitchen:port", "kitchen:99999", "http://", "a,,b",
             "http://u:p@kitchen", "kitchen/path", "http://kitchen?x=1"],
)  # fmt: skip
def test_a_wrong_one_is_told_with_what_was_expected(text: str) -> None:
    with pytest.raises(HubError, match="expected http://HOST:PORT") as caught:
        credentials.read_addresses(text)
    assert "\n" not in str(caught.value)


def test_several_have_commas_between_them() -> None:
    assert credentials.read_addresses("kitchen, attic:81") == [
        "http://kitchen:8470", "http://attic:81"
    ]  # fmt: skip


def test_the_directory_is_the_one_of_the_variable() -> None:
    assert credentials.found_dir({"SWARM_HUB_CONFIG": "/srv/hub"}) == Path("/srv/hub")
    assert credentials.found_dir({"HOME": "/home/ada"}).parts[-2:] == (".config", "swarm_hub")


def test_a_directory_without_a_token_has_none(tmp_path: Path) -> None:
    assert credentials.admin_token(tmp_path) is None
    path = tmp_path / STORAGE_DIR / ADMIN_TOKEN_FILE
    path.parent.mkdir()
    path.write_bytes(b"\xff")
    with pytest.raises(HubError, match="can't be read"):
        credentials.admin_token(tmp_path)
    path.write_text("swh_1\n")
    assert credentials.admin_token(tmp_path) == "swh_1"


@pytest.mark.parametrize(
    ("addresses", "shown"),
    [
        (None, "swh_1"),
        (["http://127.0.0.1:8470", "http://localhost:81"], "swh_1"),
        (["unix:///run/api.sock"], "swh_1"),
        (["http://kitchen:8470"], None),
        (["http://127.0.0.1:8470", "https://kitchen"], None),
    ],
)
def test_the_token_of_a_directory_is_shown_to_no_other_device(
    tmp_path: Path, addresses: list[str] | None, shown: str | None
) -> None:
    path = tmp_path / STORAGE_DIR / ADMIN_TOKEN_FILE
    path.parent.mkdir()
    path.write_text("swh_1\n")
    assert credentials.admin_token(tmp_path, addresses) == shown
