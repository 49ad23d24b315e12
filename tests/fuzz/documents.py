"""The two descriptions that the server is fuzzed by: its own, as it serves it, and OpenAI's of the same areas."""

import json
from pathlib import Path
from typing import Any

import httpx
from tests.servers import Server

Json = dict[str, Any]
HERE = Path(__file__).parent
NULL_ON_THE_REAL_WIRE = {  # schema -> properties that OpenAI describes as never null and sends as null
    "OpenAIFile": ["expires_at", "status_details"],
    "ListFilesResponse": ["first_id", "last_id"],
    "ChatCompletionList": ["first_id", "last_id"],
    "ChatCompletionMessageList": ["first_id", "last_id"],
}
ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def own(server: Server) -> Json:
    """As served, but for the key: a request without one is answered 401 before anything of it is read."""
    root = server.base_url.removesuffix("/v1")
    document: Json = httpx.get(f"{root}/openapi.json").raise_for_status().json()
    for methods in document["paths"].values():
        for operation in methods.values():
            operation.pop("security", None)
    return document


def official() -> Json:
    """OpenAI's operations and schemas, with the errors and nulls of its real answers, and two slips corrected."""
    asked = json.loads((HERE / "openai_document.json").read_text("utf-8"))
    answered = json.loads((HERE.parent / "api" / "openai_schemas.json").read_text("utf-8"))["components"]["schemas"]
    schemas: Json = {**answered, **asked["schemas"]}
    for name, properties in NULL_ON_THE_REAL_WIRE.items():
        for one in properties:
            schemas[name]["properties"][one] = {"anyOf": [schemas[name]["properties"][one], {"type": "null"}]}
    schemas["EvalApiError"] = {"anyOf": [schemas["EvalApiError"], {"type": "null"}]}  # null where there is none
    schemas["OpenAIFile"]["properties"]["purpose"]["enum"].append("evals")  # which an upload may have
    message = schemas["StoredMessage"] = json.loads(json.dumps(schemas["ChatCompletionResponseMessage"]))
    message["properties"]["role"] = {"type": "string"}  # OpenAI's calls every message that was asked the assistant's
    stored = schemas["ChatCompletionMessageList"]["properties"]["data"]["items"]
    stored["allOf"][0] = {"$ref": "#/components/schemas/StoredMessage"}
    refused = {"description": "An error.", "content": {"application/json": {"schema": ERROR}}}
    for methods in asked["paths"].values():
        for operation in methods.values():
            operation["responses"]["200"].setdefault("description", "")
            operation["responses"]["4XX"] = refused
    raw = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    asked["paths"]["/files/{file_id}/content"]["get"]["responses"]["200"]["content"] = raw
    return {
        "openapi": "3.1.0",
        "info": {"title": "OpenAI", "version": "2.3.0"},
        "paths": {f"/v1{path}": methods for path, methods in asked["paths"].items()},
        "components": {"schemas": schemas},
    }
