"""What a hub tells, typed: each record is the JSON as it came, with attributes for what is in it.

A key of a newer hub is there as well, by its name: `status["new_key"]`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, Self

from swarm_hub.models.event import ENDS_OF_JOBS

# The states in which a job stays.
ENDED: Final = frozenset(each.removeprefix("job_") for each in ENDS_OF_JOBS)


class Record(dict[str, Any]):
    """An object of the API: a mapping that can't be changed, with typed attributes.

    >>> record = Record(name="kitchen", slots=4)
    >>> record["slots"], dict(record)
    (4, {'name': 'kitchen', 'slots': 4})
    >>> record["slots"] = 5
    Traceback (most recent call last):
    TypeError: what a hub told can't be changed; take a copy: dict(record)
    """

    __slots__ = ()

    def _refuse(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise TypeError("what a hub told can't be changed; take a copy: dict(record)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict.__repr__(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling would set one key after the other.
        return type(self), (dict(self),)

    @classmethod
    def each_of(cls, found: Any) -> tuple[Self, ...]:
        """Return a record of each object of a list."""
        return tuple(cls(each) for each in found or ())


class _Told:
    """An attribute that is the value of a key, None where the hub did not tell it."""

    def __init__(self, key: str | None = None, read: Callable[[Any], Any] | None = None) -> None:
        self._key = key
        self._read = read

    def __set_name__(self, _owner: type, name: str) -> None:
        self._key = self._key or name

    def __get__(self, record: Mapping[str, Any] | None, _owner: type) -> Any:
        if record is None:
            return self
        value = record.get(self._key or "")
        return value if self._read is None or value is None else self._read(value)


def _told(key: str | None = None, read: Callable[[Any], Any] | None = None) -> Any:
    return _Told(key, read)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Progress(Record):
    """How far along a job is.

    >>> swarm.status(job_id).progress.fraction
    1.0
    """

    __slots__ = ()

    # Not called `items`, which is what a mapping has.
    n_items: int | None = _told("items")
    items_done: int = _told()
    items_failed: int = _told()
    shards: int | None = _told()
    shards_done: int = _told()
    retries: int = _told()

    @property
    def fraction(self) -> float:
        """Which part of the items is done, from 0 to 1.

        >>> swarm.status(job_id).progress.fraction
        1.0
        """
        return (self.items_done or 0) / self.n_items if self.n_items else 0.0


class NodeShare(Record):
    """What one node did for a job.

    >>> sum(share.shards for share in swarm.status(job_id).nodes)
    2
    """

    __slots__ = ()

    node_id: str = _told()
    shards: int = _told()
    attempts: int = _told()
    wall_s: float = _told()
    cpu_s: float = _told()
    peak_memory_bytes: int | None = _told()


class JobStatus(Record):
    """How a job is, or was when the hub told; some of it is missing in lists of jobs.

    >>> status = swarm.status(job_id)
    >>> status.state, status.progress.items_done, status.result
    ('completed', 100, 25)
    >>> status["state"] == status.state
    True
    """

    __slots__ = ()

    job_id: str = _told()
    state: str = _told()
    name: str | None = _told()
    owner: str = _told()
    labels: dict[str, str] = _told()
    reduce: str = _told()
    spec: dict[str, Any] = _told()
    progress: Progress = _told(read=Progress)
    created_at: datetime = _told(read=_at)
    started_at: datetime | None = _told(read=_at)
    finished_at: datetime | None = _told(read=_at)
    duration_s: float | None = _told()
    # In words, as the hub says them; `failures` of a client has them one by one.
    failures: list[str] = _told()
    failed_items: int = _told()
    problem: str | None = _told()
    note: str | None = _told()
    waits: str | None = _told()
    nodes: tuple[NodeShare, ...] = _told(read=NodeShare.each_of)
    result: Any = _told()
    result_sha: str | None = _told()

    @property
    def ended(self) -> bool:
        """Whether it is completed, failed or cancelled.

        >>> swarm.status(job_id).ended
        True
        """
        return self.state in ENDED


class Attempt(Record):
    """One try at a shard.

    >>> [attempt.state for attempt in swarm.shards(job_id)[0].attempts]
    ['finished']
    """

    __slots__ = ()

    attempt: int = _told()
    node_id: str = _told()
    state: str = _told()
    reason: str | None = _told()


class Shard(Record):
    """A part of a job, with every attempt at it; `result` is what the one that counts used.

    >>> shard = swarm.shards(job_id)[0]
    >>> shard.index, shard.state, shard.n_items
    (0, 'done', 50)
    """

    __slots__ = ()

    index: int = _told()
    state: str = _told()
    first_item: int = _told()
    n_items: int = _told()
    attempts: tuple[Attempt, ...] = _told(read=Attempt.each_of)
    result: dict[str, Any] | None = _told()


class ShardResult(Record):
    """What one shard of a job gave; numbers and JSON are Python values, all else bytes.

    >>> first = next(iter(swarm.results(job_id, ordered=True)))
    >>> first.first_item, first.n_items, first.value
    (0, 50, 15)
    """

    __slots__ = ()

    index: int = _told()
    first_item: int = _told()
    n_items: int = _told()
    value: Any = _told()
    node_id: str = _told()
    # What the node is called, if that is known.
    node: str | None = _told()


class Failure(Record):
    """Items on which a module failed; `nodes` are those that said so, by name.

    >>> trap = '(module (func (export "map") (param i64 i64) (result i64) unreachable))'
    >>> failed = swarm.submit(trap, range(3), shard_size=3)
    >>> failed.wait().state
    'failed'
    >>> failure = next(iter(swarm.failures(failed)))
    >>> failure.item, failure.n_items, failure.state
    (0, 3, 'failed')
    """

    __slots__ = ()

    item: int = _told("first_item")
    first_item: int = _told()
    n_items: int = _told()
    # Such as prices.csv:18.
    place: str | None = _told()
    where: str | None = _told("place")
    state: str = _told()
    text: str = _told()
    n_failures: int = _told()
    shard: int = _told()
    message: str = _told()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes on which it failed, by name, or by id where that is not known.

        >>> swarm.submit("primes.wat", range(100)).failures()
        []
        """
        return tuple(each["name"] or each["node_id"] for each in self.get("nodes") or ())


class Node(Record):
    """A device of the swarm.

    >>> "up" in [node.state for node in swarm.nodes()]
    True
    """

    __slots__ = ()

    node_id: str = _told()
    name: str = _told()
    state: str = _told()
    # What it is to others, and which version; known while it is connected.
    roles: list[str] = _told()
    version: str | None = _told()
    slots: int | None = _told()
    labels: dict[str, str] = _told()
    assignments: int = _told()
    # Why it takes no work.
    refuses: str | None = _told()
    first_seen: datetime = _told(read=_at)
    last_seen: datetime = _told(read=_at)
    ban_reason: str | None = _told()
    ban_until: datetime | None = _told(read=_at)
    drain_reason: str | None = _told()
    telemetry: dict[str, Any] = _told()


class NetworkBan(Record):
    """A network that is banned.

    >>> swarm.ban_network("10.9.0.0/16", for_s=3600).network
    '10.9.0.0/16'
    >>> swarm.unban_network("10.9.0.0/16")
    """

    __slots__ = ()

    network: str = _told()
    reason: str = _told()
    until: datetime | None = _told(read=_at)


class LivingGateway(Record):
    """A gateway of the swarm: where clients (`urls`) and workers (`addresses`) reach it.

    >>> gateway = swarm.gateways()[0]
    >>> gateway.answers, gateway.nodes
    (True, 1)
    """

    __slots__ = ()

    gateway_id: str = _told()
    name: str = _told()
    version: str = _told()
    urls: list[str] = _told()
    addresses: list[str] = _told()
    nodes: int = _told()
    slots: int = _told()
    idle_slots: int = _told()
    answers: bool = _told()


class Invite(Record):
    """An invitation; its `link` is there only when it is made.

    >>> made = swarm.invite(expires_s=600)
    >>> made.link, made.owner
    ('swarmhub://join/1/...', None)
    """

    __slots__ = ()

    id: str = _told()
    link: str | None = _told()
    state: str | None = _told()
    expires_at: datetime = _told(read=_at)
    used_by: str | None = _told()
    owner: str | None = _told()


class Health(Record):
    """How a hub is; `problems` says what is wrong where it is not `ok`.

    >>> health = swarm.health()
    >>> health.ok, health.state, health.nodes
    (True, 'running', 1)
    """

    __slots__ = ()

    ok: bool = _told()
    name: str = _told()
    version: str = _told()
    state: str = _told()
    problems: list[str] = _told()
    nodes: int = _told()
    slots: int = _told()
    last_seq: int = _told()


class WorkerState(Record):
    """What a hub's own worker does.

    >>> swarm.worker().paused is None
    True
    """

    __slots__ = ()

    running: list[str] = _told()
    waiting: int = _told()
    slots: int = _told()
    refuses: str | None = _told()
    paused: dict[str, Any] | None = _told()


class Event(Record):
    """Something that happened; a passing one has no `seq`.

    >>> swarm.story(job_id)[0].event_type
    'job_queued'
    """

    __slots__ = ()

    seq: int | None = _told()
    event_type: str = _told()
    time_fired: datetime = _told(read=_at)
    data: dict[str, Any] = _told()
