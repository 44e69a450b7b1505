"""What a user hands in, before anything is checked or stored."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """One uploaded file of a dataset."""

    name: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it came in: `values` is a JSON dataset, None when files were uploaded."""

    module: bytes
    parts: tuple[DatasetPart, ...]
    values: Any
    spec: bytes
    owner: str
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a submission made, or had made before (`known`)."""

    job_id: str
    known: bool
