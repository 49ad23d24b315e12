"""docs/api.md names every endpoint and every field, so that neither can be added or dropped in silence."""

import re
from pathlib import Path

from fastapi import FastAPI

from tunesmith.settings import TrainingOptions
from tunesmith.wire.files import PURPOSES, FileForm
from tunesmith.wire.jobs import CreateJob, PreferenceHyperparameters

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def test_every_endpoint_is_documented(app: FastAPI) -> None:
    paths = set(app.openapi()["paths"])
    assert len(paths) > 10
    for path in paths:
        parent, _, last = path.rpartition("/")
        assert f"{path}`" in TEXT or (f"…/{last}`" in TEXT and f"{parent}/" in TEXT), path


def test_every_field_of_a_job_is_documented() -> None:
    table = TEXT.partition("## Fine-tuning jobs")[2]
    for name in {*CreateJob.model_fields, *PreferenceHyperparameters.model_fields}:
        assert re.search(rf"[`.]{name}[`.:]", table), name


def test_every_part_of_an_upload_is_documented() -> None:
    fields = [field.alias or name for name, field in FileForm.model_fields.items()]
    for name in (*fields, *PURPOSES):
        assert f"`{name}`" in TEXT, name


def test_every_option_of_a_job_is_documented_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    for name, field in TrainingOptions.model_fields.items():
        row = re.search(rf"^\| `{name}` \| ([^|]+) \|", text, re.MULTILINE)
        assert row, name
        shown = row[1].strip('`"')
        assert shown == field.default if isinstance(field.default, str) else float(shown) == field.default, name
