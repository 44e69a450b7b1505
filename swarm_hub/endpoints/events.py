"""Events as clients follow them: which ones, from where on, and how such a stream ends."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What of a job decides who hears of it."""

    owner: str
    labels: tuple[tuple[str, str], ...] = ()


class JobKnowledge(Protocol):
    """Who knows such facts."""

    def known(self, job_id: str) -> JobFacts | None:
        """Return those of a job at once, None if they have to be looked up."""

    async def find(self, job_ids: Sequence[str]) -> Mapping[str, JobFacts]:
        """Look up those of jobs, by id; those of unknown ones are left out."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a client wants: those that all of this is true of."""

    event_types: frozenset[str] | None = None
    job_id: str | None = None
    node_id: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def accepts(
        self, event_type: str, job_id: str | None, node_id: str | None, facts: JobFacts | None
    ) -> bool:
        """Whether an event is wanted; `facts` are those of its job."""
        return (
            (self.event_types is None or event_type in self.event_types)
            and (self.job_id is None or job_id == self.job_id)
            and (self.node_id is None or node_id == self.node_id)
            and (
                not self.labels
                or (facts is not None and all(label in facts.labels for label in self.labels))
            )
        )


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ends by itself: after one of these durable events, with one last event.

    `ended_at` returns the `seq` of that event if it is stored, for one that came before the stream.
    """

    event_types: frozenset[str]
    ended_at: Callable[[], Awaitable[int | None]]
    last: Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class EventStream:
    """What a command returns that begins a subscription to events of the hub.

    The result is a `StreamBegins`. Then come the events that `first` returns, those durable ones
    that were stored after `since`, and those that happen.
    """

    wanted: EventFilter
    since: int | None = None
    first: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]] | None = None
    end: StreamEnd | None = None


class StreamBegins(TypedDict):
    """The result of a command that begins a subscription to events.

    `last_seq` is the newest durable event there was. `events_lost` says that some after `since` are
    no longer kept, wanted ones perhaps among them.
    """

    last_seq: int
    events_lost: bool
