"""What can go wrong when talking to a hub."""

from typing import Any

from swarm_hub.exceptions import HubError


class ClientError(HubError):
    """Base of the client's errors."""


class UnreachableError(ClientError):
    """No hub answers at that address."""


class ApiError(ClientError):
    """The hub refused a request; `status` is the HTTP status, `code` a machine-readable reason.

    `retry_after_s` is when to try again, None if that would change nothing or is not known.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class JobFailedError(ClientError):
    """A job ended without a result; `status` is its last status."""

    def __init__(self, status: dict[str, Any]) -> None:
        failures = "\n  ".join(status.get("failures") or ())
        text = f"job {status['job_id']} is {status['state']}"
        super().__init__(f"{text}:\n  {failures}" if failures else text)
        self.status = status
