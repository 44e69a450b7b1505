"""What can go wrong when talking to a hub."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm_hub.client.records import Failure, JobStatus
from swarm_hub.exceptions import HubError

UNAUTHORIZED: Final = 401


class ClientError(HubError):
    """Base of the client's errors; by itself, that something can't be sent.

    >>> swarm.submit("nowhere.wat", range(100))
    Traceback (most recent call last):
    swarm_hub.client.errors.ClientError: nowhere.wat: can't be read: No such file or directory
    """


class UnreachableError(ClientError):
    """No hub answers at that address.

    >>> with Swarm("127.0.0.1:1") as nobody:
    ...     nobody.health()
    Traceback (most recent call last):
    swarm_hub.client.errors.UnreachableError: no hub answers at http://127.0.0.1:1; ...
    """

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        # Whether a hub may have got the request all the same.
        self.was_sent = was_sent


class ApiError(ClientError):
    """The hub refused a request; `status` is the HTTP status, `code` a machine-readable reason.

    `retry_after_s` is when to try again, None if that would change nothing or is not known.

    >>> try:
    ...     swarm.submit("primes.wat", range(100), shardsize=5)
    ... except ApiError as error:
    ...     print(error.status, error.code, error)
    422 invalid_spec spec: shardsize: unknown key; did you mean shard_size?
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class JobFailedError(ClientError):
    """A job ended without a result; `status` is its last status, `job` its id.

    `failures` are those items that failed, a hundred at most; `item` is the first of them and
    `node` a device on which it did, None where the hub did not say.

    >>> trap = '(module (func (export "map") (param i64 i64) (result i64) unreachable))'
    >>> try:
    ...     swarm.map(trap, range(100), shard_size=100)
    ... except JobFailedError as error:
    ...     print(error.status.state, error.item, error.failures[0].n_items, error.failures[0].text)
    failed 0 100 trap: ...
    """

    def __init__(self, status: Mapping[str, Any], failures: Sequence[Failure] = ()) -> None:
        said = "\n  ".join(status.get("failures") or ())
        text = f"job {status['job_id']} is {status['state']}"
        super().__init__(f"{text}:\n  {said}" if said else text)
        self.status = JobStatus(status)
        self.job = str(status["job_id"])
        self.failures = tuple(failures)

    @property
    def item(self) -> int | None:
        """The first item that failed.

        >>> JobFailedError(swarm.status(job_id)).item is None
        True
        """
        return self.failures[0].item if self.failures else None

    @property
    def node(self) -> str | None:
        """A device on which it failed.

        >>> JobFailedError(swarm.status(job_id)).node is None
        True
        """
        names = self.failures[0].nodes if self.failures else ()
        return names[0] if names else None


class JobCancelledError(JobFailedError):
    """A job was cancelled before it had a result.

    >>> job = swarm.submit("primes.wat", range(10**9))
    >>> job.cancel().state
    'cancelled'
    >>> job.result()
    Traceback (most recent call last):
    swarm_hub.client.errors.JobCancelledError: job ... is cancelled
    """


class JobTimeoutError(ClientError, TimeoutError):
    """A job had not ended in time; `job` is its id, None if the hub had not taken it in.

    >>> job = swarm.submit("primes.wat", range(10**9))
    >>> job.wait(timeout=0.1, on_timeout="cancel")
    Traceback (most recent call last):
    swarm_hub.client.errors.JobTimeoutError: job ... had not ended after 0.1 s; it was cancelled
    """

    def __init__(self, message: str, job: str | None = None) -> None:
        super().__init__(message)
        self.job = job


def failed(status: Mapping[str, Any], failures: Sequence[Failure] = ()) -> JobFailedError:
    """Return the error of a job that ended without a result."""
    kind = JobCancelledError if status["state"] == "cancelled" else JobFailedError
    return kind(status, failures)
