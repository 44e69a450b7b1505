"""Validators that say what they take, for the description of the API and of the configuration."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Validator = TypeVar("_Validator", bound=Callable[[Any], Any])


def described(json_schema: Mapping[str, Any]) -> Callable[[_Validator], _Validator]:
    """Return a decorator that notes what a validator takes; one without it says nothing of it.

    A schema with a `title` is described once, under that name. In a query the values are those
    that the text stands for.
    """

    def note(validator: _Validator) -> _Validator:
        validator.json_schema = json_schema  # type: ignore[attr-defined]
        return validator

    return note


def stands_for(schema: Any) -> Callable[[_Validator], _Validator]:
    """Return a decorator that notes the voluptuous schema behind a validator."""

    def note(validator: _Validator) -> _Validator:
        validator.schema = schema  # type: ignore[attr-defined]
        return validator

    return note
