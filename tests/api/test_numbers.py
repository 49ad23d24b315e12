"""Numbers that no parser agrees on, wherever a request has a number: a 400 that says so, never a 500."""

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused, Upload

from tunesmith.rows.parse import BrokenLine, parse_line
from tunesmith.settings import TrainingOptions
from tunesmith.store import Store

JOB = '{"model": "gpt-3.5-turbo", "training_file": "file-x", %s}'
CHAT = '{"model": "m", "messages": [{"role": "user", "content": "hi"}], %s}'
PLACES = {  # what a body has in the place of %s -> its route and body
    **{
        f"job {name}": ("/v1/fine_tuning/jobs", JOB % text)
        for name, text in {
            "seed": '"seed": %s',
            "validation_file": '"validation_file": %s',
            "n_epochs": '"hyperparameters": {"n_epochs": %s}',
            "multiplier": '"hyperparameters": {"learning_rate_multiplier": %s}',
            "beta": '"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": %s}}}',
            "metadata": '"metadata": {"a": %s}',
            "unknown": '"foo": %s',
            **{option: f'"tunesmith": {{"{option}": %s}}' for option in TrainingOptions.model_fields},
        }.items()
    },
    **{
        f"chat {name}": ("/v1/chat/completions", CHAT % text)
        for name, text in {
            **{name: f'"{name}": %s' for name in ("seed", "n", "max_tokens", "temperature", "top_logprobs", "foo")},
            "logit_bias": '"logit_bias": {"5": %s}',
            "metadata": '"store": true, "metadata": {"a": %s}',
        }.items()
    },
    "chat content": ("/v1/chat/completions", '{"model": "m", "messages": [{"role": "user", "content": %s}]}'),
    "prompt": ("/v1/completions", '{"model": "m", "prompt": [%s]}'),
    "input": ("/v1/moderations", '{"input": %s}'),
    "upload": ("/v1/uploads", '{"filename": "a", "purpose": "fine-tune", "bytes": %s, "mime_type": "text/jsonl"}'),
    "parts": ("/v1/uploads/upload_x/complete", '{"part_ids": [%s]}'),
    "project": ("/v1/organization/projects", '{"name": %s}'),
    "item": ("/v1/fine_tuning/alpha/graders/run", '{"grader": {}, "model_sample": "x", "item": {"a": %s}}'),
}
NUMBERS = {"5000 digits": "9" * 5000, "minus": "-" + "9" * 5000, "4000 digits": "9" * 4000, "400 digits": "9" * 400}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=list(NUMBERS))
@pytest.mark.parametrize("place", PLACES)
def test_a_number_of_very_many_digits_is_refused_in_a_line(
    client: TestClient, refused: Refused, place: str, number: str
) -> None:
    path, body = PLACES[place]
    error = refused(client.post(path, content=body % number, headers={"content-type": "application/json"}))
    assert len(error["message"]) < 400
    assert "error parsing the body" not in error["message"]
    if len(number) >= 5000:
        assert error["message"] == (
            "The request body has a number that is too large to be read. Send numbers of less than 300 digits."
        )


def test_a_key_of_a_bias_and_an_index_of_a_grader_may_be_no_such_number(client: TestClient, refused: Refused) -> None:
    error = refused(client.post("/v1/chat/completions", content=CHAT % f'"logit_bias": {{"{"9" * 5000}": 1}}'))
    assert error["param"] == "logit_bias"
    grader = {"type": "string_check", "name": "a", "input": "{{item.a[" + "9" * 5000 + "]}}", "reference": "y"}
    body = {"grader": {**grader, "operation": "eq"}, "model_sample": "x", "item": {"a": [1]}}
    refused(client.post("/v1/fine_tuning/alpha/graders/run", json=body))


def test_a_file_with_such_a_number_has_a_fault_in_its_line(client: TestClient, upload: Upload, rows: bytes) -> None:
    made = upload(rows + b'{"messages": [{"role": "user", "content": ' + b"9" * 5000 + b"}]}\n")
    for _ in range(100):
        found = client.get(f"/v1/files/{made['id']}").json()
        if found["status"] != "uploaded":
            break
    assert found["status"] == "error"
    assert found["status_details"].startswith("Invalid file format. Example 11 cannot be parsed.")


@pytest.mark.parametrize("length", ["9" * 5000, "²", "9" * 18], ids=["long", "superscript", "large"])
def test_a_length_that_is_announced_may_be_any_text(client: TestClient, refused: Refused, length: str) -> None:
    headers = {b"content-length": length.encode(), b"content-type": b"application/json"}
    answer = client.post("/v1/chat/completions", content=b"{}", headers=headers)
    message = refused(answer, 413 if length != "²" else 400)["message"]
    assert message.startswith("The request body is larger than" if length != "²" else "Missing required parameter")


def test_a_whole_number_beyond_64_bits_is_still_one(client: TestClient, refused: Refused) -> None:
    for number in (2**63, 2**64, -(2**64), 10**30):
        error = refused(client.post("/v1/chat/completions", content=CHAT % f'"seed": {number}'))
        bound = "below minimum value. Expected a value >= -9223372036854775808"
        if number > 0:
            bound = "above maximum value. Expected a value <= 9223372036854775807"
        assert error["message"].startswith(f"Invalid 'seed': integer {bound}, but got ")
        assert error["code"] == ("integer_above_max_value" if number > 0 else "integer_below_min_value")
    error = refused(client.post("/v1/chat/completions", content=CHAT % f'"temperature": {10**30}'))
    assert error["code"] == "decimal_above_max_value"


def test_a_whole_number_just_below_64_bits_is_refused_and_the_least_one_is_not(
    client: TestClient, refused: Refused
) -> None:
    error = refused(client.post("/v1/chat/completions", content=CHAT % f'"seed": {-(2**63) - 1}'))
    assert error["message"] == (
        "Invalid 'seed': integer below minimum value. Expected a value >= -9223372036854775808, but got "
        "-9223372036854775809 instead."
    )
    assert refused(client.post("/v1/chat/completions", content=CHAT % f'"seed": {-(2**63)}'), 404)["code"] == (
        "model_not_found"
    )
    upload = '{"filename": "a", "purpose": "fine-tune", "mime_type": "text/jsonl", "bytes": %s}' % (2**63)
    error = refused(client.post("/v1/uploads", content=upload, headers={"content-type": "application/json"}))
    assert error["message"] == ("9223372036854775808 is greater than the maximum of 9223372036854775807 - 'bytes'")


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_called_so(client: TestClient, refused: Refused, number: str) -> None:
    begin = f"The request body has a number that is not a finite number: {number}, line 1"
    for path, body in PLACES.values():
        error = refused(client.post(path, content=body % number, headers={"content-type": "application/json"}))
        assert error["message"].startswith(begin), path


QUERIES = (
    "fine_tuning/jobs?limit",
    "fine_tuning/jobs/ftjob-x/events?limit",
    "files?limit",
    "chat/completions?limit",
    "organization/projects?limit",
    "organization/usage/completions?limit=1&start_time",
    "organization/usage/completions?start_time=1&end_time",
    "organization/usage/completions?start_time=1&limit",
)


def test_a_query_of_very_many_digits_is_refused_in_our_words(app: FastAPI, store: Store, refused: Refused) -> None:
    owner, many = {"Authorization": f"Bearer {store.keys.create('owner', role='owner')[0]}"}, "9" * 5000
    with TestClient(app, headers=owner) as client:
        for query in QUERIES:
            name = query.rpartition("?")[2].rpartition("&")[2]
            error = refused(client.get(f"/v1/{query}={many}"))
            assert error["message"] == f"'{many[:59]}… has more digits than any number that is possible here - '{name}'"
            assert error["param"] == name
            assert refused(client.get(f"/v1/{query}=1.5"))["message"] == f"'1.5' is not a whole number - '{name}'"


def test_a_query_that_is_neither_true_nor_false_is_refused_in_our_words(
    app: FastAPI, store: Store, refused: Refused
) -> None:
    owner = {"Authorization": f"Bearer {store.keys.create('owner', role='owner')[0]}"}
    with TestClient(app, headers=owner) as client:
        error = refused(client.get("/v1/organization/projects?include_archived=maybe"))
    assert error["message"] == "'maybe' is neither true nor false - 'include_archived'"


@pytest.mark.parametrize(
    ("number", "message", "fix"),
    [
        ("1e999", "1e999 is not a finite number: decimals end at 1.8e308.", "Write a smaller one, or null."),
        ("9" * 400, "A number of 400 digits is too large to be read.", "Write one of less than 300."),
        (".5", ".5 is not how JSON writes a number.", None),
        ("0x10", "0x10 is not how JSON writes a number.", None),
    ],
    ids=["infinite", "long", "point", "hexadecimal"],
)
def test_a_number_of_a_row_is_explained(number: str, message: str, fix: str | None) -> None:
    with pytest.raises(BrokenLine) as found:
        parse_line(b'{"a": %s}' % number.encode())
    assert found.value.fault.message == message
    assert found.value.fault.path == "column 7"
    assert fix is None or found.value.fault.fix == fix
