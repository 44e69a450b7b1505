"""What can go wrong when talking to a hub."""

from typing import Any

from swarm_hub.exceptions import HubError


class ClientError(HubError):
    """Base of the client's errors; by itself, that something can't be sent.

    >>> swarm.submit("nowhere.wat", range(100))
    Traceback (most recent call last):
    swarm_hub.client.errors.ClientError: nowhere.wat: can't be read: No such file or directory
    """


class UnreachableError(ClientError):
    """No hub answers at that address.

    >>> with BlockingSwarmClient("http://127.0.0.1:1") as nobody:
    ...     nobody.health()
    Traceback (most recent call last):
    swarm_hub.client.errors.UnreachableError: no hub answers at http://127.0.0.1:1; ...
    """


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
    """A job ended without a result; `status` is its last status.

    >>> trap = b'(module (func (export "map") (param i64 i64) (result i64) unreachable))'
    >>> try:
    ...     swarm.map(trap, range(100), shard_size=100)
    ... except JobFailedError as error:
    ...     print(error.status["state"], error.status["failures"])
    failed ['items 0 to 99: ...']
    """

    def __init__(self, status: dict[str, Any]) -> None:
        failures = "\n  ".join(status.get("failures") or ())
        text = f"job {status['job_id']} is {status['state']}"
        super().__init__(f"{text}:\n  {failures}" if failures else text)
        self.status = status
