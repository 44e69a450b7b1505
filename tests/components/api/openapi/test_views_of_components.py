"""Views of whatever a component may bring: their description needs nothing but what they have."""

from typing import Any, Literal, NotRequired, TypedDict

import voluptuous as vol
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from swarm_hub.components.api.openapi.answers import statuses
from swarm_hub.components.api.openapi.document import document
from swarm_hub.endpoints import (
    Answer,
    Command,
    CommandCall,
    Json,
    RawBody,
    Request,
    Scope,
    Success,
    View,
    flag,
    text,
    whole_number,
)  # fmt: skip
from swarm_hub.exceptions import Conflict


class Thing(TypedDict):
    """A thing, with those in it."""

    thing_id: str
    kind: Literal["a", "b"]
    size: int | None
    inner: "list[Thing]"
    labels: dict[str, str]
    more: NotRequired[Any]


class Things(TypedDict):
    """Some things."""

    things: list[Thing]


async def handler(_request: Request) -> Answer:
    """Do something with a thing.

    It takes as long as it takes.
    """
    return Json({})


async def command(_call: CommandCall) -> Any:
    """Count things."""


class Prefixed:
    prefix = "label."

    def __str__(self) -> str:
        return "label.*"


def described(*views: View, commands: tuple[Command, ...] = ()) -> Any:
    made = document(views, commands)
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(made)] == []
    return made


def test_a_view_with_no_more_than_it_needs_is_described() -> None:
    made = described(View("GET", "/things/{thing_id}", handler, Scope.READ, Thing))
    got = made["paths"]["/api/v1/things/{thing_id}"]["get"]
    assert (got["summary"], got["description"]) == (
        "Do something with a thing", "It takes as long as it takes.",
    )  # fmt: skip
    assert got["security"] == [{"bearer": ["read"]}]
    assert set(got["responses"]) == {
        "200", "400", "401", "403", "404", "422", "429", "500", "503",
    }  # fmt: skip
    thing = made["components"]["schemas"]["Thing"]
    assert thing["description"] == "A thing, with those in it."
    assert thing["required"] == ["thing_id", "kind", "size", "inner", "labels"]
    assert thing["properties"] == {
        "thing_id": {"type": "string"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "inner": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "more": {},
    }


def test_queries_say_what_their_validators_take() -> None:
    query = {
        vol.Optional("limit", default="5"): whole_number(1, 9),
        vol.Required("name", description="Whose it is."): text(20, min_length=1),
        "deep": flag,
        "odd": lambda value: value,
        Prefixed(): text(10),
    }
    made = described(View("GET", "/things", handler, Scope.READ, Things, query))
    parameters = {
        each["name"]: each for each in made["paths"]["/api/v1/things"]["get"]["parameters"]
    }
    assert parameters["limit"]["schema"] == {
        "type": "integer", "minimum": 1, "maximum": 9, "default": 5,
    }  # fmt: skip
    assert parameters["name"]["required"]
    assert parameters["name"]["description"] == "Whose it is."
    assert parameters["name"]["schema"] == {"type": "string", "minLength": 1, "maxLength": 20}
    assert parameters["deep"]["schema"] == {"type": "boolean"}
    assert parameters["odd"]["schema"] == {"type": "string"}
    assert parameters["label.*"]["schema"]["patternProperties"].keys() == {"^label[.]."}


def test_bodies_say_what_their_validators_take() -> None:
    closed = vol.Schema(
        {vol.Required("name"): text(5), vol.Optional("size", default=None): vol.Any(None, int)}
    )
    loose = vol.Schema({"anything": lambda value: value}, extra=vol.REMOVE_EXTRA)
    made = described(
        View("POST", "/things", handler, Scope.SUBMIT, Thing, body=closed),
        View("PATCH", "/things/{thing_id}", handler, Scope.SUBMIT, Thing, body=loose),
    )
    body = made["paths"]["/api/v1/things"]["post"]["requestBody"]
    assert body["required"]
    schema = body["content"]["application/json"]["schema"]
    assert (schema["required"], schema["additionalProperties"]) == (["name"], False)
    assert schema["properties"]["size"]["default"] is None
    body = made["paths"]["/api/v1/things/{thing_id}"]["patch"]["requestBody"]
    assert not body["required"]
    assert "additionalProperties" not in body["content"]["application/json"]["schema"]


def test_bytes_streams_and_texts_have_their_media_types() -> None:
    made = described(
        View("PUT", "/blobs/{sha256}", handler, Scope.SUBMIT, Thing,
             body=RawBody({"application/octet-stream": "the bytes", "*/*": "too"}),
             successes=(Success.CREATED, Success.OK)),
        View("GET", "/metrics", handler, Scope.READ, bytes, media_types=("text/plain",),
             outside=True),
        View("GET", "/things/events", handler, Scope.READ, Things, events=True),
    )  # fmt: skip
    put = made["paths"]["/api/v1/blobs/{sha256}"]["put"]
    assert put["requestBody"]["content"].keys() == {"application/octet-stream", "*/*"}
    assert {"200", "201", "413", "415", "507"} <= put["responses"].keys()
    metrics = made["paths"]["/metrics"]["get"]["responses"]["200"]
    assert metrics["content"] == {"text/plain": {"schema": {"type": "string"}}}
    events = made["paths"]["/api/v1/things/events"]["get"]["responses"]
    assert events["200"]["content"].keys() == {"text/event-stream"}
    assert "204" in events


def test_links_lead_from_an_answer_to_what_takes_its_ids() -> None:
    made = described(
        View("GET", "/things", handler, Scope.READ, Things),
        View("GET", "/things/{thing_id}", handler, Scope.READ, Thing),
    )
    links = made["paths"]["/api/v1/things"]["get"]["responses"]["200"]["links"]
    assert links["get_thing"]["parameters"] == {"thing_id": "$response.body#/things/0/thing_id"}


def test_paths_that_would_have_one_id_have_two() -> None:
    made = described(
        View("GET", "/thing", handler, Scope.READ, Thing),
        View("GET", "/things/{thing_id}", handler, Scope.READ, Thing),
        View("GET", "/thing", handler, Scope.PUBLIC, Thing, outside=True),
    )
    ids = [item["get"]["operationId"] for item in made["paths"].values()]
    assert len(set(ids)) == len(ids)


def test_commands_are_described_with_the_websocket() -> None:
    made = described(
        commands=(Command("things/count", command, Scope.READ, {"name": text(5)}, type(None)),)
    )
    (found,) = made["paths"]["/api/websocket"]["get"]["x-commands"]
    assert (found["type"], found["scope"], found["summary"]) == (
        "things/count", "read", "Count things",
    )  # fmt: skip
    assert found["params"]["properties"]["name"]["maxLength"] == 5


def test_what_a_view_raises_is_among_its_statuses() -> None:
    view = View("POST", "/things", handler, Scope.READ, Thing)
    assert 409 not in statuses(view)
    view = View("POST", "/things", handler, Scope.READ, Thing, errors=(Conflict,))
    assert {200, 409, 507} <= statuses(view)
