"""Mine."""

from nothing_of_that_name import CONFIG_SCHEMA, async_setup

__all__ = ["CONFIG_SCHEMA", "async_setup"]
