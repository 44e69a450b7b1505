"""Where in the owner's files a fault is."""

from pathlib import Path

from swarm_hub.util.blame import blamed, worded


def fault(path: Path, code: str) -> BaseException:
    path.write_text(code)
    try:
        exec(compile(code, str(path), "exec"), {"__name__": "x"})
    except Exception as error:
        return error
    raise AssertionError("it has no fault")


def test_the_innermost_line_in_the_owners_files_is_blamed(tmp_path: Path) -> None:
    code = "import json\ndef f():\n    json.loads('{')\nf()\n"
    assert blamed(tmp_path, fault(tmp_path / "a.py", code)) == (tmp_path / "a.py", 3)
    assert blamed(tmp_path / "other", fault(tmp_path / "a.py", code)) is None


def test_a_file_that_is_no_python_has_a_line_too(tmp_path: Path) -> None:
    error = fault(tmp_path / "a.py", "x = 1\ny = (\n")
    assert blamed(tmp_path / "a.py", error) == (tmp_path / "a.py", 2)
    assert worded(error) == "SyntaxError: '(' was never closed"
