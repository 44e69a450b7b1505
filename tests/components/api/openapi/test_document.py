"""The description of the API: valid OpenAPI 3.1, complete, and equal to what is kept in docs/."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from script.openapi_tools import DOCUMENT, described
from swarm_hub.components.api.description import description
from tests.conftest import Swarm
from tests.helpers.rest import call

KEPT = json.loads(DOCUMENT.read_bytes())
METHODS = ("get", "post", "put", "patch", "delete")


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def examples(content: Any) -> list[tuple[Any, Any]]:
    return [(each["schema"], each["example"]) for each in content.values() if "example" in each]


async def test_what_is_kept_is_what_is_served(tmp_path: Path) -> None:
    made = await described(tmp_path)
    assert made == DOCUMENT.read_bytes(), (
        "docs/openapi.json is not what the hub serves; make it anew with: script/openapi "
        "(or .venv/bin/python -m script.openapi_tools)"
    )


async def test_a_hub_serves_the_description_of_what_it_has(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, served = await call(gateway, "GET", "/openapi.json")
    assert status == 200
    assert served == json.loads(json.dumps(description(gateway.hub)))
    assert "/api/v1/jobs" in served["paths"]
    # No worker runs here.
    assert "/api/v1/worker" not in served["paths"]
    # It tells what runs on this hub, which is nobody's business without a token.
    assert (await call(gateway, "GET", "/openapi.json", token=None))[0] == 401


async def test_every_view_is_in_it(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    served = description(gateway.hub)
    for view in gateway.hub.endpoints.views:
        path = view.path if view.outside else f"/api/v1{view.path}"
        assert served["paths"][path][view.method.lower()]["summary"]


def test_it_is_openapi_3_1() -> None:
    assert KEPT["openapi"] == "3.1.0"
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(KEPT)] == []
    assert not OPENAPI_31_VALIDATOR.is_valid({**KEPT, "paths": {"jobs": {}}})


def test_its_schemas_are_json_schema() -> None:
    for schema in KEPT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_operation_ids_are_unique_and_speak() -> None:
    ids = [operation["operationId"] for _, _, operation in operations(KEPT)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", each) for each in ids)
    assert {"get_jobs", "post_jobs", "get_job", "delete_job", "get_job_result"} <= set(ids)


def test_whatever_is_referred_to_is_there() -> None:
    ids = {operation["operationId"] for _, _, operation in operations(KEPT)}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(KEPT)):
        found = KEPT
        for part in reference.split("/"):
            found = found[part]
    for _, _, operation in operations(KEPT):
        for answer in operation["responses"].values():
            assert {each["operationId"] for each in answer.get("links", {}).values()} <= ids


def test_every_operation_says_what_it_needs_and_answers() -> None:
    error = {"$ref": "#/components/schemas/Error"}
    for refusal in KEPT["components"]["responses"].values():
        assert refusal["content"]["application/json"]["schema"] == error
    for method, path, operation in operations(KEPT):
        where = f"{method} {path}"
        assert operation["tags"], where
        assert operation["responses"].keys() >= {"400", "403", "500"}, where
        if operation["security"]:
            assert "401" in operation["responses"], where
        if "{" in path:
            assert "404" in operation["responses"], where
        if "requestBody" in operation:
            assert operation["responses"].keys() >= {"413", "422"}, where
        assert any(int(status) < 400 for status in operation["responses"]), where


def test_its_examples_are_what_its_schemas_say() -> None:
    seen = 0
    for method, path, operation in operations(KEPT):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [each.get("content", {}) for each in operation["responses"].values()]
        for content in contents:
            for schema, example in examples(content):
                whole = {**schema, "components": KEPT["components"]}
                errors = list(jsonschema_rs.validator_for(whole).iter_errors(example))
                assert errors == [], f"{method} {path}: {errors[:1]}"
                seen += 1
    assert seen > 20


def test_a_job_leads_to_what_belongs_to_it() -> None:
    links = KEPT["paths"]["/api/v1/jobs"]["post"]["responses"]["202"]["links"]
    assert {"get_job", "get_job_result", "get_job_shards", "delete_job"} <= links.keys()
    assert links["get_job"]["parameters"] == {"job_id": "$response.body#/job_id"}


@pytest.mark.parametrize(
    ("path", "method", "status", "media_type"),
    [
        ("/api/v1/jobs", "post", "200", "application/x-ndjson"),
        ("/api/v1/jobs", "post", "202", "application/json"),
        ("/api/v1/jobs/{job_id}/result", "get", "200", "application/octet-stream"),
        ("/api/v1/jobs/{job_id}/result", "get", "206", "application/octet-stream"),
        ("/docs", "get", "200", "text/html"),
    ],
)
def test_answers_have_their_media_types(
    path: str, method: str, status: str, media_type: str
) -> None:
    assert media_type in KEPT["paths"][path][method]["responses"][status]["content"]


def test_a_submission_is_described_in_each_of_its_media_types() -> None:
    content = KEPT["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]
    for media_type in ("multipart/form-data", "application/cbor", "application/json"):
        spec = content[media_type]["schema"]["properties"]["spec"]
        assert spec["$ref"] == "#/components/schemas/JobSpec"
    spec = KEPT["components"]["schemas"]["JobSpec"]
    assert spec["additionalProperties"] is False
    assert {"abi", "split", "reduce", "limits", "labels"} <= spec["properties"].keys()
