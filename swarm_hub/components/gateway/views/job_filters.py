"""What a list of jobs can be narrowed to, as a query says it."""

from collections.abc import Mapping
from typing import Any, Final

from swarm_hub.endpoints import Prefixed, Request, point_in_time, text, words
from swarm_hub.exceptions import InvalidInput
from swarm_hub.models.call import NAME_MAX_CHARS
from swarm_hub.models.job import JobState
from swarm_hub.storage.queries.listing import JobFilter
from swarm_hub.util.bounds import TEXT_MAX_CHARS

_LABEL: Final = Prefixed("label.")
_LABELS_MAX: Final = 16
_TEXT_MAX_CHARS: Final = 200

FILTERS: Final[Mapping[Any, Any]] = {
    "state": words(JobState),
    _LABEL: text(TEXT_MAX_CHARS),
    "owner": text(NAME_MAX_CHARS),
    "since": point_in_time,
    "text": text(_TEXT_MAX_CHARS),
}


def job_filter(query: Mapping[str, Any], own: str | None) -> JobFilter:
    """Return what a checked query asks for; with `own` of this owner's jobs alone."""
    labels = _LABEL.of(query)
    if len(labels) > _LABELS_MAX:
        raise InvalidInput("invalid_query", f"ask for {_LABELS_MAX} labels at most")
    owners = (own, query.get("owner"))
    return JobFilter(
        query.get("state", frozenset()), labels,
        frozenset(owner for owner in owners if owner is not None),
        query.get("since"), query.get("text", ""),
    )  # fmt: skip


def seen_alone(request: Request) -> str | None:
    """Return whose jobs alone the caller sees, None for one who sees all."""
    caller = request.caller
    return None if caller is None or caller.sees_all else caller.account
