"""What is no YAML is explained at the line of the mistake, whichever reader found it."""

from pathlib import Path

import pytest
import yaml

from swarm_hub.exceptions import ConfigError
from swarm_hub.util import yaml_loader
from swarm_hub.util.redaction import REDACTED
from swarm_hub.util.yaml_loader import load_yaml

MISTAKES: dict[str, tuple[str | bytes, str]] = {
    "a tab": ("hub:\n\tname: a\n", "2: a tab is not allowed here; use spaces: '\\tname: a'"),
    "a tab below spaces": ("hub:\n  name: a\n\t- x\n", "3: a tab is not allowed here"),
    "an open quote": (
        'hub:\n  name: "kitchen\ngateway:\n  jobs: 5\n',
        "2: the quote that begins here is never closed: '  name: \"kitchen'",
    ),
    "a quote that meets another": (
        'hub:\n  name: "kitchen\ngateway:\n  hours: "22:00"\n',
        "2: the quote that begins here ends only in line 4; is one missing?: '  name: \"kitchen'",
    ),
    "too deep": (
        "hub:\n  name: a\n    jobs: 5\n",
        "3: it is indented deeper than line 2, which has a value already: '    jobs: 5'",
    ),
    "between two depths": (
        "gateway:\n    jobs: 5\n  redundancy: 1\n",
        "3: wrong indentation: 2 spaces of indentation fit no line above it: '  redundancy: 1'",
    ),
    "no colon": (
        "gateway:\n  # how many\n  jobs 5\n\n  redundancy: 1\n",
        "3: a colon is missing: expected `key: value`: '  jobs 5'",
    ),
    "no space": ("gateway:\n  jobs:5\n  x: 1\n", "2: a space is missing after the colon"),
    "two colons": ("hub:\n  name: a: b\n", "2: a value with a colon in it needs quotes"),
    "an open bracket": (
        "mesh:\n  listen: [a, b\napi:\n  port: 5\n", "2: the [ that begins here is not closed"
    ),
    "an open brace": ("sla: {platform: fixed\napi:\n", "1: the { that begins here is not closed"),
    "an open bracket in one": ("a: [[1, 2]\nb: 1\n", "1: the [ that begins here is not closed"),
    "an at in brackets": ("a: [1, @home]\n", "1: a value can't begin with @; put it in quotes"),
    "no comma": ("mesh: {a: 1 b: 2}\n", "1: a comma is missing between values after {"),
    "an at": ("hub:\n  name: @home\n", "2: a value can't begin with @; put it in quotes"),
    "a star": ("hub:\n  name: *x\n", "2: a value can't begin with *; put it in quotes"),
    "two documents": ("hub:\n---\nhub:\n", "2: a file is one document; remove the second ---"),
    "a bell": ("hub:\n  name: a\x07b\n", "2: the character U+0007 may not be in it; remove it"),
    "an escape": ('hub:\n  name: "C:\\dir"\n', "2: a backslash in double quotes begins an escape"),
    "a list item": ("a: 1\n- b\n", "2: a list item is where a key is expected: '- b'"),
    "a key in a list": ("- a\nb: 1\n", "2: a key is where a list item (`- `) is expected: 'b: 1'"),
    "a merge": ("a: &a {x: 1}\nb:\n  <<: *a\n", "3: <<: is not known here"),
    "Latin-1": (b"hub:\n  name: caf\xe9\n", "2: the byte 0xe9 is not UTF-8; save the fi"),
    "UTF-16": ("hub:\n".encode("utf-16"), "1: the file is UTF-16; save it as UTF-8"),
    "a password": (
        "db:\n  password: hunter2\n    x: 1\n", "3: it is indented deeper than line 2, which has"
    ),
}  # fmt: skip


@pytest.fixture(params=["libyaml", "python"])
def _reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(yaml_loader, "_BaseLoader", yaml.SafeLoader)


def said_of(folder: Path, content: str | bytes, name: str = "configuration.yaml") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, folder)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.usefixtures("_reader")
def test_a_mistake_is_explained_where_it_is(tmp_path: Path, name: str) -> None:
    text, said = MISTAKES[name]
    assert said_of(tmp_path, text).startswith(f"configuration.yaml:{said}")


@pytest.mark.usefixtures("_reader")
def test_the_end_of_a_file_is_a_line_too(tmp_path: Path) -> None:
    assert said_of(tmp_path, "a: [").startswith("configuration.yaml:1: ")
    assert said_of(tmp_path, "a: {\n\n").startswith("configuration.yaml:1: ")


def test_what_looks_like_a_secret_is_not_shown(tmp_path: Path) -> None:
    said = said_of(tmp_path, "password: hunter2: x\n")
    assert said.endswith(f"needs quotes: 'password: {REDACTED}'")
    assert "hunter2" not in said_of(tmp_path, "wifi: hunter2: x\n", "secrets.yaml")


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
def test_a_file_of_another_system_is_read(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "configuration.yaml"
    path.write_bytes(start + b"hub:\r\n  name: a\r\ngateway:\r\n")
    content = load_yaml(path, tmp_path)
    assert content == {"hub": {"name": "a"}, "gateway": None}
    assert content.places["gateway"].line == 3
