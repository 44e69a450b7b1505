"""Where new lines go in files that are there: functions of the text that raise ValueError."""

import ast


def before(text: str, mark: str, added: str, behind: str = "") -> str:
    """Return the text with `added` before the first `mark` that stands behind another text."""
    at = text.find(mark, text.index(behind) + len(behind)) if behind in text else -1
    if at < 0:
        raise ValueError(f"it has no {mark.strip()!r}")
    return text[:at] + added + text[at:]


def into_set_up(text: str, imports: str, call: str) -> str:
    """Return a component's `__init__.py` with `hub.endpoints.<call>` first in its `async_setup`.

    `{hub}` in the call is what the function calls the hub. The import goes to the others.
    """
    body = ast.parse(text).body
    set_up = next((each for each in body if getattr(each, "name", None) == "async_setup"), None)
    if not isinstance(set_up, ast.AsyncFunctionDef) or not set_up.args.args:
        raise ValueError("it has no `async def async_setup(hub, config)`")
    hub = set_up.args.args[0].arg
    first = set_up.body[0]
    has_docstring = ast.get_docstring(set_up) is not None
    lines = text.splitlines()
    line = first.end_lineno if has_docstring else first.lineno - 1
    assert line is not None
    lines.insert(line, f"{' ' * first.col_offset}{hub}.endpoints.{call.format(hub=hub)}")
    others = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
    lines.insert(others[-1].lineno - 1 if others else 1, imports)
    return "\n".join(lines) + "\n"
