"""The errors a user can meet; each message names the thing, the expectation and the way out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self, TypedDict


class HubError(Exception):
    """Base of every error that is shown to a user without a traceback."""


class ProblemShape(TypedDict):
    """A mistake in the configuration; `line` is null where it is not known."""

    file: str
    line: int | None
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in the configuration: where it is, what is wrong and what to do."""

    file: str
    line: int | None
    path: str
    message: str

    def shape(self) -> ProblemShape:
        """Return it as clients see it."""
        return {
            "file": self.file,
            "line": self.line,
            "path": self.path,
            "message": self.message,
        }

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ConfigError(HubError):
    """The configuration can't be used; carries every problem found, not only the first."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class HubNotRunningError(HubError):
    """No hub runs on a configuration directory."""


class SetupError(HubError):
    """A component could not be set up."""


class ComponentImportError(SetupError):
    """The code of a component can't be imported; `file` and `line` say where its fault is."""

    def __init__(self, message: str, file: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.line = line


class StoreError(HubError):
    """The store refused or failed an operation."""


class StoreBusyError(StoreError):
    """The writer's queue is full; the caller should try again later."""


class StoreFullError(StoreError):
    """The disk is full: nothing was written, and it works again once there is space."""


class StoreUnavailableError(StoreError):
    """The store can't be reached or written for now; nothing was written."""


class StoreAwayError(StoreUnavailableError):
    """The server of a shared store does not answer."""


class StoreConflictError(StoreError):
    """A row with that key exists already; nothing was written."""


class StoreFencedError(StoreError):
    """Another gateway has taken these jobs over; nothing was written."""

    def __init__(self, job_ids: Iterable[str]) -> None:
        self.job_ids = frozenset(job_ids)
        super().__init__(f"another gateway has taken over: {', '.join(sorted(self.job_ids))}")


class StoreDamagedError(StoreError):
    """The database file is damaged; `finding` says what SQLite saw."""

    def __init__(self, place: str, finding: str) -> None:
        super().__init__(f"{place}: the database is damaged ({finding})")
        self.finding = finding


class BackupError(StoreError):
    """A backup can't be made, or a file can't be restored; nothing was changed."""


# Errors of the disk, the server or a full queue, not of what was to be written.
PASSING_ERRORS: Final = (
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
    StoreDamagedError,
)


class MeshError(HubError):
    """The mesh can't listen, dial or deliver."""


class UnreachablePeerError(MeshError):
    """No address of a peer could be dialled."""


class NotAdmittedError(MeshError):
    """A peer does not admit this hub, in its own words."""


class JoinLinkError(HubError):
    """An invitation link can't be read or made."""


class SignatureRefusedError(HubError):
    """An envelope or a hello was refused; `code` names the check that failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RequestError(HubError):
    """A request is refused: `code` is for programs, `errors` lists each fault with its place.

    Subclasses give the reason in the domain's terms; only the API maps it to an HTTP status.
    """

    def __init__(
        self,
        code: str,
        message: str,
        errors: list[dict[str, str]] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.errors = errors or []
        self.retry_after_s = retry_after_s


class MalformedRequest(RequestError):
    """The request can't be read as what it claims to be."""


class InvalidInput(RequestError):
    """The request can be read, but a value in it can't be used."""

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Return the refusal of the value at `path` of a request's body."""
        return cls("invalid_request", f"{path}: {message}", [{"path": path, "message": message}])


class InvalidSpec(InvalidInput):
    """A job's spec, or what it asks of the module, can't be used."""


class TooLarge(RequestError):
    """More was sent than this hub takes."""


class UnsupportedMedia(RequestError):
    """The body is of a type that is not accepted here."""


class NotFound(RequestError):
    """There is no such thing."""


class Gone(RequestError):
    """There was such a thing, but it has been removed."""


class Conflict(RequestError):
    """The request conflicts with the present state."""


class Unauthorized(RequestError):
    """The caller is not authenticated."""


class Forbidden(RequestError):
    """The caller may not do this."""


class LimitReached(RequestError):
    """A limit on how much one hub takes at a time is reached; some of it has to end first."""


class Busy(RequestError):
    """It can't be done at this moment; the caller should try again later."""


class Unavailable(RequestError):
    """This hub does not do this at all; another one may."""


class StorageFull(RequestError):
    """There is no space to store what was sent."""


class Lost(RequestError):
    """It should be there but isn't, which is this hub's fault."""
