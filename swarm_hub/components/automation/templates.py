"""Templates as the configuration has them: what is one, and whether its syntax is right."""

from typing import Any, Final

import voluptuous as vol

_SIGNS: Final = ("{{", "{%", "{#")
TEMPLATE_MAX_CHARS: Final = 16_384
INSTALL: Final = (
    "templates need jinja2, which is not installed here: pip install 'swarm-hub[automation]'"
)
_DEPTH_MAX: Final = 20


def is_template(text: str) -> bool:
    """Whether a text has to be rendered; any other stands for itself and needs no jinja2."""
    return any(sign in text for sign in _SIGNS)


def check_templates(content: Any, path: tuple[Any, ...] = ()) -> None:
    """Raise vol.Invalid for a text in plain content that is no template by its syntax.

    Nothing is rendered: that happens in a process of its own.
    """
    if len(path) > _DEPTH_MAX:
        raise vol.Invalid("is nested too deeply", path=list(path))
    if isinstance(content, str):
        if is_template(content):
            _check(content, list(path))
    elif isinstance(content, dict):
        for key, value in content.items():
            check_templates(value, (*path, key))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            check_templates(value, (*path, number))


def _check(text: str, path: list[Any]) -> None:
    if len(text) > TEMPLATE_MAX_CHARS:
        raise vol.Invalid(f"expected at most {TEMPLATE_MAX_CHARS} characters", path=path)
    # Most automations have few templates, and most hubs none.
    try:
        from jinja2 import TemplateError, nodes
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise vol.Invalid(INSTALL, path=path) from None
    environment = ImmutableSandboxedEnvironment()
    try:
        parsed = environment.parse(text)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f"line {line} of the template: " if line and "\n" in text else ""
        raise vol.Invalid(f"is no template: {where}{error}", path=path) from None
    except (RecursionError, MemoryError):
        raise vol.Invalid("is no template: it is nested too deeply", path=path) from None
    for kind, known in ((nodes.Filter, environment.filters), (nodes.Test, environment.tests)):
        for found in parsed.find_all(kind):
            name = str(found.name)
            if name not in known:
                word = "filter" if kind is nodes.Filter else "test"
                raise vol.Invalid(f"there is no {word} {name!r} in templates", path=path)
    loading = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    if any(parsed.find(each) is not None for each in loading):
        raise vol.Invalid("a template can't load another one", path=path)
