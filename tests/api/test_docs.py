"""Every endpoint, field and option is documented, so that none can be added or dropped in silence.

Endpoints stand in docs/api.md, fields in docs/api-coverage.md, options of a job in docs/settings.md.
"""

import re
from pathlib import Path

from fastapi import FastAPI

from tunesmith.settings import TrainingOptions
from tunesmith.wire.body import Body, note
from tunesmith.wire.files import PURPOSES, FileForm
from tunesmith.wire.jobs import CreateJob, PreferenceHyperparameters

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "api.md").read_text("utf-8")


def test_every_endpoint_is_documented(app: FastAPI) -> None:
    paths = set(app.openapi()["paths"])
    assert len(paths) > 10
    for path in paths:
        parent, _, last = path.rpartition("/")
        assert f"{path}`" in TEXT or (f"…/{last}`" in TEXT and f"{parent}/" in TEXT), path


def test_every_field_of_a_request_has_a_note() -> None:
    assert len(bodies()) > 30
    bare = [
        f"{body.__name__}.{name}" for body in bodies() for name, field in body.model_fields.items() if not note(field)
    ]
    assert bare == []


def test_every_query_parameter_has_a_note(app: FastAPI) -> None:
    operations = [one for methods in app.openapi()["paths"].values() for one in methods.values()]
    query = [(one["operationId"], it) for one in operations for it in one.get("parameters", []) if it["in"] == "query"]
    assert len(query) > 20
    assert [(place, it["name"]) for place, it in query if not it.get("description")] == []


def test_every_field_of_a_job_is_documented() -> None:
    paths = [re.sub(r"^.*[.]", "", path) for path in fields("POST /v1/fine_tuning/jobs")]
    for name in {*CreateJob.model_fields, *PreferenceHyperparameters.model_fields}:
        assert name in paths, name


def test_every_part_of_an_upload_is_documented() -> None:
    notes = fields("POST /v1/files")
    for name, field in FileForm.model_fields.items():
        assert notes[field.alias or name] == note(field)
    for purpose in PURPOSES:
        assert purpose in notes["purpose"], purpose


def test_every_option_of_a_job_is_documented_with_its_default() -> None:
    text = (DOCS / "settings.md").read_text("utf-8").partition("## Per job")[2]
    for name, field in TrainingOptions.model_fields.items():
        row = re.search(rf"^\| `{name}` \| [^|]+ \| ([^|]+) \| [^|]+ \|", text, re.MULTILINE)
        assert row, name
        shown = row[1].strip('`"')
        assert shown == field.default if isinstance(field.default, str) else float(shown) == field.default, name


def fields(operation: str) -> dict[str, str]:
    """The table of an operation in docs/api-coverage.md: path of a field -> its note."""
    section = (DOCS / "api-coverage.md").read_text("utf-8").partition(f"\n## {operation}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| \w+ \| (.+) \|$", section, re.MULTILINE))


def bodies(of: type[Body] = Body) -> list[type[Body]]:
    """All request bodies and their parts; tests have bodies of their own."""
    found = [one for body in of.__subclasses__() for one in (body, *bodies(body))]
    return [body for body in found if body.__module__.startswith("tunesmith.")]
