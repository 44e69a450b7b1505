"""Values as a person writes them in YAML, on one line."""

from typing import Any

import yaml


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(
        _builtin(value),
        default_flow_style=True,
        width=2**31,
        allow_unicode=True,
        sort_keys=False,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _builtin(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _builtin(each) for key, each in value.items()}
    return [_builtin(each) for each in value] if isinstance(value, list | tuple) else value
