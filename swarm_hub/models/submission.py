"""What a user submits, before anything is checked or stored."""

from dataclasses import dataclass
from typing import Any

from swarm_hub.models.blob import Readable, SpooledBlob


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """One uploaded file of a dataset; a large one is already on disk, and mapped from there."""

    name: str
    body: Readable
    spooled: SpooledBlob | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it came in: `values` is a JSON dataset, None when files were uploaded."""

    module: bytes
    parts: tuple[DatasetPart, ...]
    values: Any
    spec: bytes
    owner: str
    idempotency_key: str | None = None
    # Name and bytes of the script that the module interprets.
    script: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a submission created, or had created before (`known`)."""

    job_id: str
    known: bool
