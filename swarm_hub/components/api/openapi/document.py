"""The whole description: every view, the websocket with its commands, and what they share."""

import inspect
from collections.abc import Sequence
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.api.openapi import answers
from swarm_hub.components.api.openapi.answers import Json
from swarm_hub.components.api.openapi.json_schemas import Schema, Schemas, prose
from swarm_hub.components.api.openapi.samples import sample
from swarm_hub.const import API_ROOT, WEBSOCKET_PATH
from swarm_hub.endpoints import Command, RawBody, Scope, View

_VERSION: Final = "1"
_NAME_MAX_CHARS: Final = 200
_TEXT: Final[Schema] = {"type": "string"}
_NAME: Final[Schema] = {**_TEXT, "minLength": 1, "maxLength": _NAME_MAX_CHARS}
_ABOUT: Final = (
    "What a hub serves. Every call needs `Authorization: Bearer …` unless it says otherwise; "
    "tokens are made with `swarm-hub token create`. What is refused has one shape, `Error`. "
    "A view of `GET` answers `HEAD` too, every path `OPTIONS`."
)
_BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": (
        "A token of this hub. Its scope is `read`, `submit` or `admin`; each includes those "
        "before it. An operation names the one that it needs."
    ),
}
_WEBSOCKET: Final = {
    "operationId": "get_websocket",
    "tags": ["websocket"],
    "summary": "Open the websocket, which carries events and commands",
    "description": (
        "Home Assistant's protocol; the token goes into the first message, "
        '`{"type": "auth", "access_token": …}`. `x-commands` are those of this hub.'
    ),
    "security": [],
    "responses": {
        "101": {"description": "The connection is a websocket from now on."},
        **{
            status: {"$ref": f"#/components/responses/{name}"}
            for status, name in (
                ("400", "BadRequest"), ("403", "Forbidden"), ("500", "InternalServerError"),
            )
        },
    },
}  # fmt: skip


def document(views: Sequence[View], commands: Sequence[Command]) -> Json:
    """Return the description of an API in OpenAPI 3.1."""
    schemas = Schemas()
    schemas.named[answers.ERROR] = answers.ERROR_SCHEMA
    ids = _operation_ids(views)
    links = answers.links_between(views, ids)

    def links_of(view: View) -> Json:
        if view.answer is bytes or view.events:
            return {}
        return links(view, schemas.of_shape(view.answer), schemas.named)

    paths: dict[str, Json] = {}
    for view in views:
        operation = _operation(view, schemas, ids[answers.key_of(view)])
        operation["responses"] = answers.answers(view, schemas, links_of, schemas.named)
        paths.setdefault(_path(view), {})[view.method.lower()] = operation
    paths[WEBSOCKET_PATH] = {
        "get": {**_WEBSOCKET, "x-commands": [_command(each, schemas) for each in commands]}
    }
    tags = sorted(
        {tag for path in paths.values() for each in path.values() for tag in each["tags"]}
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "swarm_hub", "version": _VERSION, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"bearer": _BEARER},
            "responses": answers.shared_refusals(),
            "schemas": dict(sorted(schemas.named.items())),
        },
    }


def _path(view: View) -> str:
    return view.path if view.outside else API_ROOT + view.path


def _operation(view: View, schemas: Schemas, operation_id: str) -> Json:
    summary, _, rest = prose(inspect.getdoc(view.handler) or str(view)).partition("\n\n")
    operation: Json = {
        "operationId": operation_id,
        "tags": [view.path.split("/")[1].partition(".")[0] or "root"],
        "summary": summary.removesuffix("."),
    }
    if rest:
        operation["description"] = rest
    assert view.scope is not None, "the registry takes no view without a scope"
    public = view.scope is Scope.PUBLIC
    operation["security"] = [] if public else [{"bearer": [view.scope.value]}]
    if parameters := _parameters(view, schemas):
        operation["parameters"] = parameters
    if view.body is not None:
        operation["requestBody"] = _body(view.body, schemas)
    return operation


def _parameters(view: View, schemas: Schemas) -> list[Json]:
    found: list[Json] = [
        {
            "name": name, "in": "path", "required": True,
            "schema": dict(view.path_values.get(name, _NAME)),
        }
        for name in answers.path_parameters(view.path)
    ]  # fmt: skip
    found += [_query_parameter(key, value, schemas) for key, value in view.query.items()]
    taken = dict(view.request_headers)
    if view.versioned:
        taken["If-None-Match"] = {**_TEXT, "description": "The version that you have."}
    if view.answer is bytes and view.method == "GET":
        taken["Range"] = {**_TEXT, "description": "The bytes that are wanted: `bytes=0-99`."}
    for name, schema in taken.items():
        plain = {key: value for key, value in schema.items() if key != "description"}
        header = {"name": name, "in": "header", "required": False, "schema": plain}
        if "description" in schema:
            header["description"] = schema["description"]
        found.append(header)
    return found


def _query_parameter(key: Any, validator: Any, schemas: Schemas) -> Json:
    schema = schemas.of_validator(validator)
    if isinstance(schema.get("type"), list):
        # Whatever a validator makes of it, in a query there are only texts.
        schema = dict(_TEXT)
    if (prefix := getattr(key, "prefix", None)) is not None:
        # `form` with `explode` writes the fields of an object as names of the query.
        fields = {
            "type": "object",
            "patternProperties": {f"^{prefix.replace('.', '[.]')}.": schema},
        }
        return {
            "name": str(key), "in": "query", "required": False, "style": "form", "explode": True,
            "schema": {**fields, "additionalProperties": False},
        }  # fmt: skip
    name = str(key)
    parameter: Json = {"name": name, "in": "query", "required": isinstance(key, vol.Required)}
    if isinstance(key, vol.Marker) and key.description:
        parameter["description"] = key.description
    if isinstance(key, vol.Optional | vol.Required) and not isinstance(key.default, vol.Undefined):
        schema = {**schema, "default": _as_written(key.default(), schema)}
    return {**parameter, "schema": schema}


def _as_written(default: Any, schema: Schema) -> Any:
    """Return a default of a query, which is a text, as the value that it stands for."""
    if schema.get("type") == "integer" and isinstance(default, str):
        return int(default)
    if schema.get("type") == "boolean" and isinstance(default, str):
        return default == "true"
    return default


def _body(body: vol.Schema | RawBody, schemas: Schemas) -> Json:
    if isinstance(body, RawBody):
        content = {}
        for media_type, what in body.media_types.items():
            given = body.schemas.get(media_type)
            schema = {**_TEXT, "format": "binary"} if given is None else schemas.of_validator(given)
            content[media_type] = {"schema": {**schema, "description": what}}
            if media_type in body.examples:
                content[media_type]["example"] = body.examples[media_type]
        return {"required": True, "content": content}
    schema = schemas.of_validator(body)
    media = {"schema": schema, "example": sample(schema, schemas.named)}
    # Nothing counts as an empty object.
    return {"required": bool(schema.get("required")), "content": {"application/json": media}}


def _command(command: Command, schemas: Schemas) -> Json:
    assert command.scope is not None, "the registry takes no command without a scope"
    summary = prose(inspect.getdoc(command.handler) or command.name).partition("\n\n")[0]
    return {
        "type": command.name,
        "summary": summary.removesuffix("."),
        "scope": command.scope.value,
        "params": schemas.of_validator(vol.Schema(dict(command.params or {}))),
        "result": schemas.of_shape(command.result),
    }


def _operation_ids(views: Sequence[View]) -> dict[answers.Key, str]:
    """Return an id for each view, made of its method and path: `get_job_result`."""
    found = {("GET", WEBSOCKET_PATH, True): str(_WEBSOCKET["operationId"])}
    for view in views:
        method = view.method.lower()
        short = "_".join([method, *_short_words(view.path)])
        whole = "_".join([method, *(part.strip("{}") for part in view.path.split("/") if part)])
        name = short if short not in found.values() else whole
        if view.outside and name in found.values():
            name = f"{name}_outside"
        found[answers.key_of(view)] = _identifier(name)
    return found


def _short_words(path: str) -> list[str]:
    """Return the words of a path, in which `/jobs/{job_id}` is a job."""
    words: list[str] = []
    for part in path.split("/")[1:]:
        if not part.startswith("{"):
            words.append(part)
        elif words and part == f"{{{words[-1].removesuffix('s')}_id}}":
            words[-1] = words[-1].removesuffix("s")
        else:
            words.append(part.strip("{}"))
    return words


def _identifier(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)
