"""The notes of a request's fields: a body's from its type in `tunesmith.wire`, a query's from the OpenAPI document."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from tunesmith.wire.body import Body, note

Json = dict[str, Any]
OLD_NAMES = ("starting_after", "cursor")  # of `after`, whose note names them
NAMES = {  # in a path: OpenAI's -> ours
    "fine_tuned_model_checkpoint": "name",
    "fine_tuning_job_id": "job_id",
    "model": "name",
}


class Notes:
    """The notes of one application's operations, from its OpenAPI document and the types that this names."""

    def __init__(self, document: Json) -> None:
        self._paths: Json = document["paths"]
        self._bodies = {body.__name__: body for body in _below(Body)}

    def labels(self, prefix: str) -> list[str]:
        """`POST /v1/files` and the like: the operations under a path."""
        return [
            f"{method.upper()} {path}"
            for path in self._paths
            if path.startswith(prefix)
            for method in self._paths[path]
        ]

    def of(self, method: str, path: str) -> dict[str, str]:
        """Path of a field -> its note, query parameters first, an outer field before those inside it."""
        for theirs, ours in NAMES.items():
            path = path.replace(f"{{{theirs}}}", f"{{{ours}}}")
        operation = self._paths.get(path, {}).get(method.lower(), {})
        query = [one for one in operation.get("parameters", []) if one["in"] == "query"]
        found = {one["name"]: _parameter(one) for one in query if one["name"] not in OLD_NAMES}
        content = operation.get("requestBody", {}).get("content", {})
        for media in content.values():
            found |= body_notes(self._bodies[media["schema"]["$ref"].rpartition("/")[2]])
        return found


def body_notes(body: type[Body], before: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a body and of the bodies in it; `tools[].function.name` is one in a list.

    A field that several bodies have in one place gets the notes of all. The options of a job stand in docs/settings.md.
    """
    for name, field in body.model_fields.items():
        path = f"{before}{field.alias or name}"
        yield path, note(field)
        found: dict[str, list[str]] = {}
        for inside, dots in _bodies(field.annotation):
            for inner, text in body_notes(inside, f"{path}{dots}."):
                found.setdefault(inner, []).append(text)
        yield from ((inner, " ".join(dict.fromkeys(texts))) for inner, texts in found.items())


def _bodies(annotation: object, dots: str = "") -> Iterator[tuple[type[Body], str]]:
    """The bodies that a field may hold, with `[]` where they are in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Body):
        yield annotation, dots
        return
    deeper = f"{dots}[]" if get_origin(annotation) is list else dots
    for part in get_args(annotation):
        yield from _bodies(part, deeper)


def _below(body: type[Body]) -> Iterator[type[Body]]:
    for one in body.__subclasses__():
        yield one
        yield from _below(one)


def _parameter(parameter: Json) -> str:
    text, default = parameter.get("description", ""), parameter.get("schema", {}).get("default")
    return text if default is None or not text else f"{text} Default: {str(default).lower()}."
