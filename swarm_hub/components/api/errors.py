"""Errors in their common shape `{message, code, errors}`, and the HTTP status of each."""

from typing import Final

from aiohttp import web

from swarm_hub import exceptions
from swarm_hub.const import STORE_AWAY
from swarm_hub.exceptions import RequestError
from swarm_hub.util.strict_json import dump_json


class RangeNotSatisfiable(RequestError):
    """No byte lies in the range that was asked for."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__("invalid_range", f"the blob has {size_bytes} bytes")
        self.size_bytes = size_bytes


class MethodNotAllowed(RequestError):
    """The path exists, but does not support this method."""


class ClientGone(Exception):
    """The client has closed its connection, or lost it, before it was answered.

    That is no fault of the hub, so it is told to nobody.
    """


_STATUS: Final[dict[type[BaseException], int]] = {
    exceptions.MalformedRequest: 400,
    exceptions.Unauthorized: 401,
    exceptions.Forbidden: 403,
    exceptions.NotFound: 404,
    MethodNotAllowed: 405,
    exceptions.Conflict: 409,
    exceptions.Gone: 410,
    exceptions.TooLarge: 413,
    exceptions.UnsupportedMedia: 415,
    RangeNotSatisfiable: 416,
    exceptions.InvalidInput: 422,
    exceptions.LimitReached: 429,
    exceptions.Lost: 500,
    exceptions.Busy: 503,
    exceptions.Unavailable: 503,
    exceptions.StorageFull: 507,
}
# Of a refusal that will pass, and that does not know when.
RETRY_AFTER_S: Final = 2
# What concerns the hub's own disk and database is for its log, not for clients.
_DISK_FULL: Final = "the hub's disk is full; try again when there is space"
_BUSY: Final = "the store can't take this at the moment; try again"
_AWAY: Final = "the store does not answer; try again, or ask another gateway"
_FAILED: Final = "the store refused this; see the hub's log"


def status_of(error: RequestError) -> int:
    """Return the HTTP status of a refusal."""
    return status_of_kind(type(error))


def status_of_kind(kind: type[RequestError]) -> int:
    """Return the HTTP status of refusals of a kind."""
    return next((_STATUS[each] for each in kind.__mro__ if each in _STATUS), 500)


def as_request_error(error: BaseException) -> RequestError | None:
    """Return what the caller may be told about an error, None for errors that stay internal."""
    match error:
        case RequestError():
            return error
        case exceptions.StoreFullError():
            return exceptions.StorageFull("disk_full", _DISK_FULL)
        case exceptions.StoreAwayError():
            return exceptions.Busy(STORE_AWAY, _AWAY, retry_after_s=RETRY_AFTER_S)
        case exceptions.StoreBusyError() | exceptions.StoreUnavailableError():
            return exceptions.Busy("busy", _BUSY, retry_after_s=RETRY_AFTER_S)
        case exceptions.StoreError() | exceptions.ConfigError() | exceptions.SetupError():
            # Their words name files, and quote the database.
            return RequestError("failed", _FAILED)
        case exceptions.HubError():
            return RequestError("failed", str(error))
        case _:
            return None


def error_response(error: RequestError, status: int | None = None) -> web.Response:
    """Return an error as clients see it."""
    response = web.Response(
        body=dump_json({"message": error.message, "code": error.code, "errors": error.errors}),
        status=status_of(error) if status is None else status,
        content_type="application/json",
        charset="utf-8",
    )
    retry_after_s = error.retry_after_s
    if retry_after_s is None and isinstance(error, exceptions.Busy | exceptions.LimitReached):
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, RangeNotSatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size_bytes}"
    if isinstance(error, exceptions.Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
