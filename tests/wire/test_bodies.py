"""The other bodies: each form that a value may have, and the first thing that is wrong."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire.body import Body, read
from tunesmith.wire.chat.bodies import Chat
from tunesmith.wire.completions import CreateCompletion
from tunesmith.wire.faults import explain
from tunesmith.wire.files import FileForm
from tunesmith.wire.graders import RunGrader, ScoreModelBody, TextSimilarityBody
from tunesmith.wire.jobs import CreateJob, hint_about_unknown
from tunesmith.wire.lists import deleted
from tunesmith.wire.models import GrantPermissions
from tunesmith.wire.moderations import CreateModeration
from tunesmith.wire.organization import ProjectKeyBody
from tunesmith.wire.tools import AllowedTools

PART = {"type": "text", "text": "a"}
SCORE: JsonObject = {
    "type": "score_model",
    "name": "s",
    "model": "m",
    "input": [{"role": "user", "content": "Rate it."}],
}
SCALARS: tuple[object, ...] = (None, True, 0, -1, 1.5, 2**70, "", "x")
JUNK = (*SCALARS, [], [None], ["x"], [{}], [[]], {}, {"x": 1}, {"type": "x"})


def fault(body: type[Body], **fields: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        read(body, fields)
    return caught.value.param, caught.value.message


@pytest.mark.parametrize(
    ("prompt", "read_as"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])]
)
def test_a_prompt_has_four_forms(prompt: Any, read_as: Any) -> None:
    assert read(CreateCompletion, {"model": "m", "prompt": prompt}).prompt == read_as


@pytest.mark.parametrize(
    ("prompt", "param"),
    [([], "prompt"), ([1, "a"], "prompt[1]"), ([[1, True]], "prompt[0][1]"), (["a", {}], "prompt[1]")],
)
def test_what_is_no_prompt_is_named(prompt: Any, param: str) -> None:
    assert fault(CreateCompletion, model="m", prompt=prompt)[0] == param


def test_too_many_prompts_are_counted() -> None:
    param, message = fault(CreateCompletion, model="m", prompt=["a"] * 129)
    assert (param, "maximum length 128, but got an array with length 129" in message) == ("prompt", True)


def test_zero_tokens_are_possible_only_in_completions() -> None:
    assert read(CreateCompletion, {"model": "m", "prompt": "a", "max_tokens": 0}).max_tokens == 0


@pytest.mark.parametrize(("value", "read_as"), [("a", ["a"]), (["a", ""], ["a", ""]), ([PART, PART], ["a\na"])])
def test_texts_to_moderate_have_three_forms(value: Any, read_as: list[str]) -> None:
    assert read(CreateModeration, {"input": value}).input == read_as


def test_a_graders_content_is_a_text_or_parts() -> None:
    parts: list[JsonValue] = [{"type": "input_text", "text": "a"}, "b"]
    body = read(ScoreModelBody, {**SCORE, "input": [{"role": "user", "content": parts}]})
    assert (body.input[0].content, body.range) == ("a\nb", [0.0, 1.0])
    assert body.sampling_params.chat_fields() == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"range": [1, 0]}, "range"),
        ({"range": [0, True]}, "range[1]"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": {"type": "input_image"}}]}, "input[0].content"),
        ({"sampling_params": {"reasoning_effort": "low"}}, "sampling_params.reasoning_effort"),
        ({"sampling_params": {"temperature": 3}}, "sampling_params.temperature"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_wrong_with_a_score_model_is_named(fields: dict[str, Any], param: str) -> None:
    assert fault(ScoreModelBody, **{**SCORE, **fields})[0] == param


def test_a_metric_that_is_unknown_is_refused_with_those_that_are_not() -> None:
    body = {"type": "text_similarity", "name": "t", "input": "a", "reference": "b", "evaluation_metric": "likeness"}
    param, message = fault(TextSimilarityBody, **body)
    assert param == "evaluation_metric"
    assert "'cosine', 'fuzzy_match'" in message
    assert fault(RunGrader, grader={})[0] == "model_sample"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e4"}, "expires_after[seconds]"),
        ({"purpose": "fun"}, "purpose"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_with_a_form_is_named(fields: dict[str, str], param: str) -> None:
    assert fault(FileForm, **{"file": "a.jsonl", "purpose": "batch", **fields})[0] == param


def test_a_form_has_its_lifetime_in_seconds() -> None:
    fields = {"file": "a", "purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "7200"}
    assert read(FileForm, dict(fields)).seconds == 7200


def test_an_option_of_ours_in_the_wrong_place_is_told_where_it_belongs() -> None:
    assert fault(CreateJob, model="m", training_file="f", lora_rank=8)[0] == "lora_rank"
    assert "{'tunesmith': {'lora_rank': …}}" in hint_about_unknown("lora_rank")
    assert "under 'hyperparameters'" in hint_about_unknown("tunesmith.n_epochs")
    assert hint_about_unknown("colour") == ""


def test_owners_bodies_have_bounds() -> None:
    assert fault(ProjectKeyBody, name=" ")[0] == "name"
    assert fault(ProjectKeyBody, name="a", role="owner")[0] == "role"
    assert fault(GrantPermissions, project_ids=[])[0] == "project_ids"


def test_a_deletion_is_written_in_openais_order() -> None:
    assert list(deleted("file-1", "file")) == ["id", "object", "deleted"]
    assert list(deleted("c", "chat.completion.deleted")) == ["object", "id", "deleted"]


def bodies(kind: type[Body] = Body) -> Iterator[type[Body]]:
    """Every body of the wire's own modules."""
    for body in kind.__subclasses__():
        if body.__module__.startswith("tunesmith.wire."):
            yield body
        yield from bodies(body)


def params(body: type[Body], given: Any) -> list[str | None]:
    """Of all faults, not only of the one that is answered."""
    try:
        body.model_validate(given)
    except ValidationError as error:
        return [explain(fault, body.wording).param for fault in error.errors(include_url=False)]
    return []


BODIES: list[type[Body]] = sorted({*bodies()}, key=repr)


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_a_param_is_a_path_of_the_request_and_no_name_of_a_validator(body: type[Body]) -> None:
    for name, field in body.model_fields.items():
        for junk in JUNK:
            for param in params(body, {field.alias or name: junk}):
                _, *inner = re.split(r"[.[]", param or "")
                assert all(re.fullmatch(r"[a-z_]+|\d+\]|seconds\]|anchor\]|", one) for one in inner), param
                assert not {"str", "int", "float", "bool", "list"} & set(inner), param


MANY = dict.fromkeys(map(str, range(5000)), 1)
CHAT = {"model": "m", "messages": []}


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (Chat, {**CHAT, **MANY}),
        (Chat, {**CHAT, "stream": True, "stream_options": MANY}),
        (Chat, {**CHAT, "store": True, "metadata": MANY}),
        (Chat, {**CHAT, "tools": [1] * 5000}),
        (CreateJob, MANY),
        (CreateJob, {"model": "m", "training_file": "f", "metadata": MANY}),
        (AllowedTools, {"mode": "auto", "tools": [1] * 5000}),
    ],
)
def test_a_body_of_many_faults_is_refused_without_naming_each(body: type[Body], given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        body.model_validate(given)
    assert caught.value.error_count() <= 200


def test_a_whole_number_may_be_written_as_a_decimal() -> None:
    body: JsonObject = {"model": "m", "training_file": "f", "seed": 7.0, "tunesmith": {"lora_rank": 8.0}}
    job = read(CreateJob, {**body, "hyperparameters": {"n_epochs": 3.0, "batch_size": 2.0}})
    numbers = job.hyperparameters
    assert numbers is not None
    assert job.tunesmith is not None
    assert repr((numbers.n_epochs, numbers.batch_size, job.seed, job.tunesmith.lora_rank)) == "(3, 2, 7, 8)"
    assert fault(CreateJob, **{**body, "seed": 7.5})[1] == "7.5 is not a whole number - 'seed'"
    assert "3.5 is neither a whole number nor 'auto'" in fault(CreateJob, **body, hyperparameters={"n_epochs": 3.5})[1]
    assert fault(CreateJob, **{**body, "tunesmith": {"lora_rank": 8.5}})[0] == "tunesmith.lora_rank"
