"""What nobody else may see is left out, by its name, its look, or its text."""

import pytest

from swarm_hub.util.redaction import REDACTED, redacted_line, without_secrets


def test_what_is_called_a_secret_is_left_out_whatever_it_is() -> None:
    content = {
        "api_key": "a", "tokens": ["b", 5], "nested": [{"Password": 1}], "port": 8470,
        "url": "postgresql://me:pw@host/x", "said": "Authorization: Bearer abc", "on": True,
        "monkey": "banana",
    }  # fmt: skip
    assert without_secrets(content, frozenset({"8470"})) == {
        "api_key": REDACTED, "tokens": [REDACTED, REDACTED], "nested": [{"Password": REDACTED}],
        "port": REDACTED, "url": f"postgresql://{REDACTED}@host/x",
        "said": f"Authorization: Bearer {REDACTED}", "on": True, "monkey": "banana",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  port: 8470", "  port: 8470"),
        ("  password: hunter2", f"  password: {REDACTED}"),
        ("  url: postgresql://me:pw@host/x", f"  url: postgresql://{REDACTED}@host/x"),
        ("tokens:", "tokens:"),
    ],
)
def test_a_line_is_shown_without_its_secret(line: str, shown: str) -> None:
    assert redacted_line(line) == shown
