"""What components say of their sections in `configuration.yaml`: platforms and keys."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def component(domain: str) -> ModuleType:
    return importlib.import_module(f"swarm_hub.components.{domain}")


def platforms(domain: str) -> dict[str, ModuleType]:
    parts = f"swarm_hub.components.{domain}", component(domain).CONFIG_SCHEMA.folder
    package = importlib.import_module(".".join(filter(None, parts)))
    modules = {
        entry.name: importlib.import_module(f"{package.__name__}.{entry.name}")
        for entry in pkgutil.iter_modules(package.__path__)
    }
    return {name: module for name, module in modules.items() if hasattr(module, "PLATFORM_SCHEMA")}


def has_platforms(domain: str) -> bool:
    return not hasattr(component(domain).CONFIG_SCHEMA, "schema")


def keys_of(schema: dict[Any, Any]) -> set[str]:
    return {str(getattr(key, "schema", key)) for key in schema}
