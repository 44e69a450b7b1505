"""What may be changed of a job while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from swarm_hub.models.job import JobSpec


@dataclass(frozen=True, slots=True)
class JobChange:
    """New values of `priority`, `labels` or `deadline_s`, by the names of a spec."""

    values: Mapping[str, Any]

    def applied_to(self, spec: JobSpec) -> JobSpec:
        """Return the spec with these values."""
        return replace(spec, **self.values)

    def to_json(self) -> dict[str, Any]:
        """Return the plain values that `from_json` takes, and that an event has."""
        return {
            name: dict(value) if name == "labels" else value for name, value in self.values.items()
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild a change from what `to_json` gave."""
        return cls(
            {
                name: tuple(sorted(value.items())) if name == "labels" else value
                for name, value in plain.items()
            }
        )
