"""Every answer that a view can give, by status, with its headers and its links."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from swarm_hub.components.api.adapter import STATUS
from swarm_hub.components.api.errors import RangeNotSatisfiable, status_of_kind
from swarm_hub.components.api.openapi.json_schemas import Schema, Schemas
from swarm_hub.components.api.openapi.samples import sample
from swarm_hub.endpoints import RawBody, Scope, Success, View
from swarm_hub.exceptions import (
    Busy,
    Forbidden,
    InvalidInput,
    LimitReached,
    Lost,
    MalformedRequest,
    NotFound,
    RequestError,
    StorageFull,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
)

Json = dict[str, Any]
# Method, path, and whether it stands outside the API.
Key = tuple[str, str, bool]

ERROR: Final = "Error"
ERROR_SCHEMA: Final[Schema] = {
    "type": "object",
    "description": "Why a request is refused: `code` is for programs, `errors` lists each fault.",
    "properties": {
        "message": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
                "required": ["path", "message"],
            },
        },
    },
    "required": ["message", "code", "errors"],
}
_BAD_NEWS: Final = "It was answered, and what it says is bad news."
_WORDS: Final = {
    Success.OK: "It was done.",
    Success.CREATED: "It was made.",
    Success.ACCEPTED: "It was taken, and is done or known later.",
    Success.PARTIAL: "It is being done; this is what there is.",
    Success.NOT_OK: _BAD_NEWS,
}
_REFUSALS: Final[dict[int, tuple[str, str, str]]] = {
    400: ("The request can't be read.", "invalid_query", "limit: expected a whole number"),
    401: ("A valid token is needed.", "unauthorized", "a token is needed: Authorization: Bearer …"),
    403: (
        "The token may not do this, or the request comes from a foreign page or a banned address.",
        "wrong_scope",
        "token 'ci' may read; this needs submit",
    ),
    404: ("There is no such thing, or it is another owner's.", "not_found", "there is no job x"),
    405: ("The path does not take this method.", "method_not_allowed", "/health takes GET, HEAD"),
    409: ("It conflicts with the present state.", "no_result", "the job is running"),
    410: ("There was such a thing, but it has been removed.", "pruned", "it has been removed"),
    413: ("More was sent than this hub takes.", "request_too_large", "the request is too large"),
    415: ("The body is of a type that is not taken here.", "unsupported_media_type", "send …"),
    416: ("No byte lies in that range.", "invalid_range", "the blob has 5 bytes"),
    422: ("A value can't be used; `errors` says which.", "invalid_query", "limt: unknown key"),
    429: ("A limit is reached; some of it has to end first.", "quota", "too many requests"),
    500: ("The hub has failed; its log says how.", "internal", "an unexpected error; see the log"),
    503: ("It can't be done at this moment.", "busy", "the store can't take this at the moment"),
    507: ("There is no space to store it.", "disk_full", "the hub's disk is full"),
}
_CHANGING: Final = ("POST", "PUT", "PATCH", "DELETE")
_TEXT: Final[Schema] = {"type": "string"}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "After how many seconds to try again, if that is known.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_OF_REFUSALS: Final[dict[int, Json]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}}},
    405: {"Allow": {"required": True, "schema": _TEXT}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def refusals(view: View) -> list[int]:
    """Return the statuses of the refusals that a view may answer with."""
    # What is no HTTP, an address that is banned, a failure, and a store that can't be read.
    kinds: list[type[RequestError]] = [MalformedRequest, Forbidden, Lost, Busy]
    # Names in a query that the view does not know.
    kinds += [InvalidInput, LimitReached, *view.errors]
    if view.scope is not Scope.PUBLIC:
        kinds.append(Unauthorized)
    if "{" in view.path:
        kinds.append(NotFound)
    if view.body is not None:
        kinds.append(TooLarge)
    if isinstance(view.body, RawBody):
        kinds.append(UnsupportedMedia)
    if view.answer is bytes and view.method == "GET":
        kinds.append(RangeNotSatisfiable)
    if view.method in _CHANGING:
        kinds.append(StorageFull)
    return sorted({status_of_kind(kind) for kind in kinds})


def statuses(view: View) -> set[int]:
    """Return every status that a view may answer with."""
    found = {STATUS[success] for success in view.successes} | set(refusals(view))
    if view.lines:
        found.add(STATUS[Success.OK])
    if view.events:
        found.add(204)
    if view.answer is bytes and view.method == "GET":
        found.add(206)
    return found | ({304} if view.versioned else set())


def shared_refusals() -> Json:
    """Return the refusals as shared components, by the names of their statuses."""
    return {_name(status): _refusal(status) for status in _REFUSALS}


def answers(
    view: View, schemas: Schemas, links: Callable[[View], Json], named: Mapping[str, Schema]
) -> Json:
    """Return what a view may answer, by status."""
    found: dict[str, Json] = {}
    successes = dict.fromkeys([*view.successes, *([Success.OK] if view.lines else [])])
    for success in successes:
        content = _content(view, success, schemas, named)
        answer: Json = {"description": _WORDS[success], "content": content}
        if headers := _headers(view, success):
            answer["headers"] = headers
        if success is not Success.NOT_OK and (to := links(view)):
            answer["links"] = to
        found[str(STATUS[success])] = answer
    if view.answer is bytes and view.method == "GET":
        whole = found["200"]
        found["206"] = {
            "description": "The range that was asked for.",
            "content": whole["content"],
            "headers": {
                **whole["headers"],
                "Content-Range": {"required": True, "schema": _TEXT},
            },
        }
    if view.events:
        found["204"] = {"description": "There is nothing more to tell."}
    if view.versioned:
        found["304"] = {"description": "You have this version already.", "headers": _etag()}
    for status in refusals(view):
        told = found.get(str(status))
        if told is None:
            found[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
            continue
        # A health that is bad and a hub that is busy have one status.
        media = told["content"]["application/json"]
        media["schema"] = {"anyOf": [media["schema"], {"$ref": f"#/components/schemas/{ERROR}"}]}
        told["headers"] = {**told.get("headers", {}), **_OF_REFUSALS.get(status, {})}
    return dict(sorted(found.items()))


def _content(view: View, success: Success, schemas: Schemas, named: Mapping[str, Schema]) -> Json:
    content: Json = {}
    if view.events:
        event = schemas.of_shape(view.answer)
        return {"text/event-stream": {"schema": {}, "x-event": event}}
    if view.answer is not bytes and success in view.successes:
        schema = schemas.of_shape(view.answer)
        example = view.example_answer or sample(schema, named)
        content["application/json"] = {"schema": schema, "example": example}
    if success is not Success.OK:
        return content
    if view.lines:
        shapes = [schemas.of_shape(each) for each in dict.fromkeys(view.lines)]
        content["application/x-ndjson"] = {
            "schema": {**_TEXT, "description": "JSON, one value a line."},
            "x-lines": shapes,
        }
    if view.answer is bytes:
        content |= {each: {"schema": _bytes_of(each)} for each in view.media_types}
    return content


def _bytes_of(media_type: str) -> Schema:
    if media_type == "application/json":
        return {}
    return dict(_TEXT) if media_type.startswith("text/") else {**_TEXT, "format": "binary"}


def _headers(view: View, success: Success) -> Json:
    found: Json = {
        name: {"description": text, "schema": _TEXT} for name, text in view.answer_headers.items()
    }
    if view.method == "POST" and success in (Success.CREATED, Success.ACCEPTED):
        found["Location"] = {
            "description": "The path of what was made, if it has one.",
            "schema": _TEXT,
        }
    if view.versioned:
        found |= _etag()
    if view.answer is bytes and view.method == "GET":
        found["Accept-Ranges"] = {"schema": {"type": "string", "const": "bytes"}}
    return found


def _etag() -> Json:
    return {"ETag": {"description": "The version, for If-None-Match.", "schema": _TEXT}}


def _refusal(status: int) -> Json:
    words, code, message = _REFUSALS[status]
    example = {"message": message, "code": code, "errors": []}
    answer = {
        "description": words,
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{ERROR}"},
                "example": example,
            }
        },
    }
    return {**answer, "headers": _OF_REFUSALS[status]} if status in _OF_REFUSALS else answer


def _name(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).name.split("_"))


def links_between(
    views: Sequence[View], operation_ids: Mapping[Key, str]
) -> Callable[[View, Schema, Mapping[str, Schema]], Json]:
    """Return a function that gives a view's links: to whatever takes an id that it answers with."""
    targets = [
        (view, names[0]) for view in views if len(names := list(path_parameters(view.path))) == 1
    ]

    def links(view: View, schema: Schema, named: Mapping[str, Schema]) -> Json:
        found = {}
        for target, parameter in targets:
            pointer = _pointer(view, target, parameter, _resolved(schema, named), named)
            if pointer is not None and target is not view:
                operation_id = operation_ids[key_of(target)]
                found[operation_id] = {
                    "operationId": operation_id,
                    "parameters": {parameter: f"$response.body#{pointer}"},
                }
        return found

    return links


def key_of(view: View) -> Key:
    """Return what tells a view from all others."""
    return view.method, view.path, view.outside


def path_parameters(path: str) -> Iterable[str]:
    """Yield the names of the parameters of a path."""
    for part in path.split("/"):
        if part.startswith("{"):
            yield part[1:-1]


def _pointer(
    view: View, target: View, parameter: str, schema: Schema, named: Mapping[str, Schema]
) -> str | None:
    """Return where in an answer the value of another view's parameter stands."""
    properties = schema.get("properties", {})
    is_within = target.path.startswith(f"{view.path}/{{")
    names = [parameter, *(["id"] if is_within else [])]
    for name in names:
        if name in properties:
            return f"/{name}"
    for key, value in properties.items():
        if is_within and value.get("type") == "array":
            inner = _resolved(value["items"], named).get("properties", {})
            for name in names:
                if name in inner:
                    return f"/{key}/0/{name}"
    return None


def _resolved(schema: Schema, named: Mapping[str, Schema]) -> Schema:
    reference = schema.get("$ref", "")
    return named[reference.rpartition("/")[2]] if reference else schema
