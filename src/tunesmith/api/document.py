"""The OpenAPI document at /openapi.json, made from the types in `wire`.

FastAPI describes what it reads itself; the tables below add the rest.

One table for all routes; a route that is not in it cannot be described, and a test says so. A fuzzer holds the
server to it: to every status that an operation may have, and the exact shape of each answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire import completions, files, graders, jobs, lists, models, moderations, organization
from tunesmith.wire.chat import answers as chats
from tunesmith.wire.chat.bodies import Chat
from tunesmith.wire.evals import answers as evals
from tunesmith.wire.evals import bodies as eval_bodies

Media: TypeAlias = Literal["application/json", "multipart/form-data", "application/octet-stream", "text/event-stream"]
JSON: Media = "application/json"
FORM: Media = "multipart/form-data"
REF, RESPONSES = "#/components/schemas/", "#/components/responses/"

JOBS, CHATS, UPLOADS = "/v1/fine_tuning/jobs", "/v1/chat/completions", "/v1/uploads"
PERMISSIONS, GRADERS = "/v1/fine_tuning/checkpoints/{name}/permissions", "/v1/fine_tuning/alpha/graders"
EVAL, RUN = "/v1/evals/{eval_id}", "/v1/evals/{eval_id}/runs/{run_id}"
PROJECTS, ADMIN_KEYS = "/v1/organization/projects", "/v1/organization/admin_api_keys"

ANSWERS: dict[str, Any] = {
    "POST /v1/files": files.File,
    "GET /v1/files": lists.IdListing[files.File],
    "GET /v1/files/{file_id}": files.File,
    "DELETE /v1/files/{file_id}": lists.Deleted,
    f"POST {UPLOADS}": files.Upload,
    f"GET {UPLOADS}/{{upload_id}}": files.Upload,
    f"POST {UPLOADS}/{{upload_id}}/parts": files.UploadPart,
    f"POST {UPLOADS}/{{upload_id}}/complete": files.Upload,
    f"POST {UPLOADS}/{{upload_id}}/cancel": files.Upload,
    f"POST {JOBS}": jobs.Job,
    f"GET {JOBS}": lists.Listing[jobs.Job],
    f"GET {JOBS}/{{job_id}}": jobs.Job,
    f"POST {JOBS}/{{job_id}}/cancel": jobs.Job,
    f"POST {JOBS}/{{job_id}}/pause": jobs.Job,
    f"POST {JOBS}/{{job_id}}/resume": jobs.Job,
    f"GET {JOBS}/{{job_id}}/events": lists.Listing[jobs.Event],
    f"GET {JOBS}/{{job_id}}/checkpoints": lists.IdListing[jobs.Checkpoint],
    f"GET {PERMISSIONS}": lists.IdListing[models.Permission],
    f"POST {PERMISSIONS}": lists.IdListing[models.Permission],
    f"DELETE {PERMISSIONS}/{{permission_id}}": lists.Deleted,
    f"POST {GRADERS}/validate": graders.ValidatedGrader,
    f"POST {GRADERS}/run": graders.GraderRun,
    "GET /v1/models": models.Models,
    "GET /v1/models/{name}": models.Model,
    "POST /v1/models/{name}": models.Model,
    "POST /v1/models/{name}/display_name": models.Model,
    "DELETE /v1/models/{name}": lists.Deleted,
    f"POST {CHATS}": chats.Completion,
    "POST /v1/engines/{model}/chat/completions": chats.Completion,
    f"GET {CHATS}": lists.IdListing[chats.StoredCompletion],
    f"GET {CHATS}/{{completion_id}}": chats.StoredCompletion,
    f"POST {CHATS}/{{completion_id}}": chats.StoredCompletion,
    f"DELETE {CHATS}/{{completion_id}}": lists.Deleted,
    f"GET {CHATS}/{{completion_id}}/messages": lists.IdListing[chats.StoredMessage],
    "POST /v1/completions": completions.TextCompletion,
    "POST /v1/engines/{model}/completions": completions.TextCompletion,
    "POST /v1/moderations": moderations.Moderation,
    "POST /v1/evals": evals.Eval,
    "GET /v1/evals": lists.IdListing[evals.Eval],
    f"GET {EVAL}": evals.Eval,
    f"POST {EVAL}": evals.Eval,
    f"DELETE {EVAL}": evals.EvalDeleted,
    f"POST {EVAL}/runs": evals.Run,
    f"GET {EVAL}/runs": lists.IdListing[evals.Run],
    f"GET {RUN}": evals.Run,
    f"POST {RUN}": evals.Run,
    f"POST {RUN}/cancel": evals.Run,
    f"DELETE {RUN}": evals.RunDeleted,
    f"GET {RUN}/output_items": lists.IdListing[evals.OutputItem],
    f"GET {RUN}/output_items/{{output_item_id}}": evals.OutputItem,
    f"GET {PROJECTS}": lists.IdListing[organization.Project],
    f"POST {PROJECTS}": organization.Project,
    f"GET {PROJECTS}/{{project_id}}": organization.Project,
    f"POST {PROJECTS}/{{project_id}}": organization.Project,
    f"POST {PROJECTS}/{{project_id}}/archive": organization.Project,
    f"GET {PROJECTS}/{{project_id}}/api_keys": lists.IdListing[organization.Key],
    f"POST {PROJECTS}/{{project_id}}/api_keys": organization.Key,
    f"GET {PROJECTS}/{{project_id}}/api_keys/{{key_id}}": organization.Key,
    f"DELETE {PROJECTS}/{{project_id}}/api_keys/{{key_id}}": lists.Deleted,
    f"GET {ADMIN_KEYS}": lists.IdListing[organization.Key],
    f"POST {ADMIN_KEYS}": organization.Key,
    f"GET {ADMIN_KEYS}/{{key_id}}": organization.Key,
    f"DELETE {ADMIN_KEYS}/{{key_id}}": lists.Deleted,
    "GET /v1/organization/usage/completions": organization.UsagePage,
    "GET /healthz": lists.Health,
}
RAW = "GET /v1/files/{file_id}/content"  # the file's bytes
STREAMED = (
    f"POST {CHATS}",
    "POST /v1/completions",
    "POST /v1/engines/{model}/completions",
    "POST /v1/engines/{model}/chat/completions",
)
BODIES: dict[str, tuple[Media, Any]] = {
    "POST /v1/files": (FORM, files.FileForm),
    f"POST {UPLOADS}/{{upload_id}}/parts": (FORM, files.PartForm),
    f"POST {CHATS}": (JSON, Chat),
    "POST /v1/engines/{model}/chat/completions": (JSON, Chat),
    "POST /v1/completions": (JSON, completions.CreateCompletion),
    "POST /v1/engines/{model}/completions": (JSON, completions.CreateCompletion),
    "POST /v1/moderations": (JSON, moderations.CreateModeration),
    "POST /v1/evals": (JSON, eval_bodies.CreateEval),
    f"POST {EVAL}": (JSON, eval_bodies.UpdateEval),
    f"POST {EVAL}/runs": (JSON, eval_bodies.CreateRun),
    f"POST {GRADERS}/validate": (JSON, graders.ValidateGrader),
    f"POST {GRADERS}/run": (JSON, graders.RunGrader),
}
METADATA: JsonObject = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "description": "metadata[KEY]=VALUE; all pairs must match.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
SEVERAL: JsonObject = {"type": "array", "items": {"type": "string"}}
FILTERS = {
    "project_ids": "Only these projects; project_ids[] is read too, as for the other lists.",
    "user_ids": "There are no users here, only keys.",
    "api_key_ids": "Only these keys.",
    "models": "Only these models.",
    "group_by": "project_id, api_key_id, model; user_id, batch and service_tier stay null, api_source is refused.",
}
QUERY: dict[str, list[JsonObject]] = {  # query parameters that routes read by themselves
    f"GET {JOBS}": [{**METADATA, "description": f"{METADATA['description']} metadata=null: jobs without metadata."}],
    f"GET {CHATS}": [METADATA],
    "GET /v1/organization/usage/completions": [
        {"name": name, "in": "query", "description": note, "schema": SEVERAL} for name, note in FILTERS.items()
    ],
}

CREATED = ("POST /v1/evals", f"POST {EVAL}/runs")  # a 201, as in OpenAI's description
NAMES_A_MODEL = ("POST /v1/evals", *STREAMED, f"POST {GRADERS}/validate", f"POST {GRADERS}/run")
STATUSES = {
    "400": "What was sent is wrong: `param` names the field.",
    "401": "No key, an unknown one, or one of another project than the header OpenAI-Project names.",
    "403": "The key's role does not allow this.",
    "404": "There is no such object in the key's project.",
    "429": "A limit of the project is reached: `Retry-After` says for how long.",
    "500": "A fault of the server's own; nothing was committed, or `x-should-retry` is false.",
    "503": "The server is too busy, or its database or object storage does not answer.",
}


@dataclass(frozen=True, slots=True)
class Schemas:
    """References to the schemas of all types above, and their definitions."""

    references: Mapping[str, JsonValue]
    definitions: JsonObject


def install(app: FastAPI) -> None:
    """Makes the application serve our document instead of FastAPI's."""

    def document() -> JsonObject:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return cast(JsonObject, app.openapi_schema)

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def describe(app: FastAPI) -> JsonObject:
    """The whole document. Raises KeyError for a route that is in no table above."""
    document = cast(JsonObject, get_openapi(title=app.title, version=app.version, routes=app.routes))
    schemas = _schemas()
    for label, operation in _operations(document):
        _add_body(label, operation, schemas)
        _add_parameters(label, operation)
        operation["responses"] = _responses(label, schemas)
        if label != "GET /healthz":
            operation["security"] = [{"key": []}]
    components = _object(document, "components")
    described = _object(components, "schemas")
    for fastapis_own in ("HTTPValidationError", "ValidationError"):  # of a 422, which no route answers
        del described[fastapis_own]
    described.update(schemas.definitions)
    error: JsonObject = {JSON: {"schema": schemas.references["error"]}}
    components["responses"] = {key: {"description": text, "content": error} for key, text in STATUSES.items()}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _operations(document: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for path, methods in _object(document, "paths").items():
        for method, operation in cast(JsonObject, methods).items():
            yield f"{method.upper()} {path}", cast(JsonObject, operation)


def _schemas() -> Schemas:
    kinds = {**ANSWERS, **{f"body of {label}": kind for label, (_, kind) in BODIES.items()}, "error": lists.Error}
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
    if label in BODIES:
        media, _ = BODIES[label]
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
    found: JsonObject = {"201" if label in CREATED else "200": {"description": "The answer.", "content": content}}
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
