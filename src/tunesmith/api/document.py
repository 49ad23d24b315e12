"""The OpenAPI document at /openapi.json: FastAPI's, and what routes read and answer without FastAPI's help.

One table for all routes; a route that is not in it cannot be described, and a test says so. What a fuzzer holds the
server to stands here: every status an operation may have, and the exact shape of each answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire import answers
from tunesmith.wire import request_schemas as asked

Media: TypeAlias = Literal["application/json", "multipart/form-data", "application/octet-stream", "text/event-stream"]
JSON: Media = "application/json"
FORM: Media = "multipart/form-data"
REF, RESPONSES = "#/components/schemas/", "#/components/responses/"

JOBS, CHATS, UPLOADS = "/v1/fine_tuning/jobs", "/v1/chat/completions", "/v1/uploads"
PERMISSIONS, GRADERS = "/v1/fine_tuning/checkpoints/{name}/permissions", "/v1/fine_tuning/alpha/graders"
PROJECTS, ADMIN_KEYS = "/v1/organization/projects", "/v1/organization/admin_api_keys"

ANSWERS: dict[str, Any] = {
    "POST /v1/files": answers.File,
    "GET /v1/files": answers.IdListing[answers.File],
    "GET /v1/files/{file_id}": answers.File,
    "DELETE /v1/files/{file_id}": answers.Deleted,
    f"POST {UPLOADS}": answers.Upload,
    f"GET {UPLOADS}/{{upload_id}}": answers.Upload,
    f"POST {UPLOADS}/{{upload_id}}/parts": answers.UploadPart,
    f"POST {UPLOADS}/{{upload_id}}/complete": answers.Upload,
    f"POST {UPLOADS}/{{upload_id}}/cancel": answers.Upload,
    f"POST {JOBS}": answers.Job,
    f"GET {JOBS}": answers.Listing[answers.Job],
    f"GET {JOBS}/{{job_id}}": answers.Job,
    f"POST {JOBS}/{{job_id}}/cancel": answers.Job,
    f"POST {JOBS}/{{job_id}}/pause": answers.Job,
    f"POST {JOBS}/{{job_id}}/resume": answers.Job,
    f"GET {JOBS}/{{job_id}}/events": answers.Listing[answers.Event],
    f"GET {JOBS}/{{job_id}}/checkpoints": answers.IdListing[answers.Checkpoint],
    f"GET {PERMISSIONS}": answers.IdListing[answers.Permission],
    f"POST {PERMISSIONS}": answers.IdListing[answers.Permission],
    f"DELETE {PERMISSIONS}/{{permission_id}}": answers.Deleted,
    f"POST {GRADERS}/validate": answers.ValidatedGrader,
    f"POST {GRADERS}/run": answers.GraderRun,
    "GET /v1/models": answers.Models,
    "GET /v1/models/{name}": answers.Model,
    "DELETE /v1/models/{name}": answers.Deleted,
    f"POST {CHATS}": answers.Completion,
    "POST /v1/engines/{model}/chat/completions": answers.Completion,
    f"GET {CHATS}": answers.IdListing[answers.StoredCompletion],
    f"GET {CHATS}/{{completion_id}}": answers.StoredCompletion,
    f"POST {CHATS}/{{completion_id}}": answers.StoredCompletion,
    f"DELETE {CHATS}/{{completion_id}}": answers.Deleted,
    f"GET {CHATS}/{{completion_id}}/messages": answers.IdListing[answers.StoredMessage],
    "POST /v1/completions": answers.TextCompletion,
    "POST /v1/engines/{model}/completions": answers.TextCompletion,
    "POST /v1/moderations": answers.Moderation,
    f"GET {PROJECTS}": answers.IdListing[answers.Project],
    f"POST {PROJECTS}": answers.Project,
    f"GET {PROJECTS}/{{project_id}}": answers.Project,
    f"POST {PROJECTS}/{{project_id}}": answers.Project,
    f"POST {PROJECTS}/{{project_id}}/archive": answers.Project,
    f"GET {PROJECTS}/{{project_id}}/api_keys": answers.IdListing[answers.Key],
    f"POST {PROJECTS}/{{project_id}}/api_keys": answers.Key,
    f"GET {PROJECTS}/{{project_id}}/api_keys/{{key_id}}": answers.Key,
    f"DELETE {PROJECTS}/{{project_id}}/api_keys/{{key_id}}": answers.Deleted,
    f"GET {ADMIN_KEYS}": answers.IdListing[answers.Key],
    f"POST {ADMIN_KEYS}": answers.Key,
    f"GET {ADMIN_KEYS}/{{key_id}}": answers.Key,
    f"DELETE {ADMIN_KEYS}/{{key_id}}": answers.Deleted,
    "GET /v1/organization/usage/completions": answers.UsagePage,
    "GET /healthz": answers.Health,
}
RAW = "GET /v1/files/{file_id}/content"  # the file's bytes
STREAMED = (
    f"POST {CHATS}",
    "POST /v1/completions",
    "POST /v1/engines/{model}/completions",
    "POST /v1/engines/{model}/chat/completions",
)
ASKED: dict[str, tuple[Media, Any]] = {
    "POST /v1/files": (FORM, asked.FileForm),
    f"POST {UPLOADS}/{{upload_id}}/parts": (FORM, asked.PartForm),
    f"POST {CHATS}": (JSON, asked.Chat),
    "POST /v1/engines/{model}/chat/completions": (JSON, asked.Chat),
    "POST /v1/completions": (JSON, asked.Text),
    "POST /v1/engines/{model}/completions": (JSON, asked.Text),
    "POST /v1/moderations": (JSON, asked.Judge),
    f"POST {GRADERS}/validate": (JSON, asked.ValidateGrader),
    f"POST {GRADERS}/run": (JSON, asked.RunGrader),
}
METADATA: JsonObject = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
SEVERAL: JsonObject = {"type": "array", "items": {"type": "string"}}
FILTERS = ("project_ids", "user_ids", "api_key_ids", "models", "group_by")
QUERY: dict[str, list[JsonObject]] = {  # what routes read from the URL themselves
    f"GET {JOBS}": [METADATA],
    f"GET {CHATS}": [METADATA],
    "GET /v1/organization/usage/completions": [{"name": one, "in": "query", "schema": SEVERAL} for one in FILTERS],
}

NAMES_A_MODEL = (*STREAMED, f"POST {GRADERS}/validate", f"POST {GRADERS}/run")
STATUSES = {
    "400": "What was sent is wrong: `param` names the field.",
    "401": "No key, an unknown one, or one of another project than the header OpenAI-Project names.",
    "403": "The key's role does not allow this.",
    "404": "There is no such object in the key's project.",
    "429": "A limit of the project is reached: `Retry-After` says for how long.",
    "500": "A fault of the server's own; nothing was committed, or `x-should-retry` is false.",
    "503": "The server is too busy, or its database does not answer.",
}


@dataclass(frozen=True, slots=True)
class Schemas:
    """Of all types above: each one's reference, and what the references lead to."""

    references: Mapping[str, JsonValue]
    definitions: JsonObject


def install(app: FastAPI) -> None:
    def document() -> JsonObject:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return cast(JsonObject, app.openapi_schema)

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def describe(app: FastAPI) -> JsonObject:
    """Raises KeyError for a route that no table above has."""
    document = cast(JsonObject, get_openapi(title=app.title, version=app.version, routes=app.routes))
    schemas = _schemas()
    for label, operation in _operations(document):
        _add_body(label, operation, schemas)
        _add_parameters(label, operation)
        operation["responses"] = _responses(label, schemas)
        if label != "GET /healthz":
            operation["security"] = [{"key": []}]
    components = _object(document, "components")
    _object(components, "schemas").update(schemas.definitions)
    error: JsonObject = {JSON: {"schema": schemas.references["error"]}}
    components["responses"] = {key: {"description": text, "content": error} for key, text in STATUSES.items()}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _operations(document: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for path, methods in _object(document, "paths").items():
        for method, operation in cast(JsonObject, methods).items():
            yield f"{method.upper()} {path}", cast(JsonObject, operation)


def _schemas() -> Schemas:
    kinds = {**ANSWERS, **{f"body of {label}": kind for label, (_, kind) in ASKED.items()}, "error": answers.Error}
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[object]]] = [
        (label, "validation" if label.startswith("body of ") else "serialization", TypeAdapter(kind))
        for label, kind in kinds.items()
    ]
    found, rest = TypeAdapter.json_schemas(adapters, ref_template=REF + "{model}")
    definitions = cast(JsonObject, rest["$defs"])
    for definition in definitions.values():
        if isinstance(definition, dict) and "properties" in definition:
            definition.setdefault("additionalProperties", False)
    return Schemas({label: cast(JsonValue, schema) for (label, _), schema in found.items()}, definitions)


def _add_body(label: str, operation: JsonObject, schemas: Schemas) -> None:
    if label in ASKED:
        media, _ = ASKED[label]
        content: JsonObject = {media: {"schema": schemas.references[f"body of {label}"]}}
        operation["requestBody"] = {"required": True, "content": content}


def _add_parameters(label: str, operation: JsonObject) -> None:
    if label in QUERY:
        known = cast(list[JsonValue], operation.setdefault("parameters", []))
        known.extend(QUERY[label])


def _responses(label: str, schemas: Schemas) -> JsonObject:
    if label == RAW:
        content: JsonObject = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    else:
        content = {JSON: {"schema": schemas.references[label]}}
    if label in STREAMED:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    found: JsonObject = {"200": {"description": "The answer.", "content": content}}
    refused: JsonObject = {status: {"$ref": f"{RESPONSES}{status}"} for status in STATUSES if _possible(label, status)}
    return found | refused


def _possible(label: str, status: str) -> bool:
    if label == "GET /healthz":
        return status in ("500", "503")
    if status == "404":
        return "{" in label or label in NAMES_A_MODEL
    return status != "429" or label.startswith("POST ")


def _object(parent: JsonObject, name: str) -> JsonObject:
    return cast(JsonObject, parent.setdefault(name, {}))
