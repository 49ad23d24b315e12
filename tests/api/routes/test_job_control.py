"""Cancel, pause and resume of /v1/fine_tuning/jobs, and jobs that are not there."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Valid

from tunesmith.store import JobStatus, NewEvent, Store

JOBS = "/v1/fine_tuning/jobs"


def test_cancel_stops_a_job_and_says_so(
    client: TestClient, create: Callable[..., Json], valid: Valid, refused: Refused
) -> None:
    job_id = create()["id"]
    job = client.post(f"{JOBS}/{job_id}/cancel").json()
    valid("FineTuningJob", job)
    assert (job["status"], job["finished_at"], job["fine_tuned_model"], job["result_files"]) == (
        "cancelled", None, None, [],
    )  # fmt: skip
    newest = client.get(f"{JOBS}/{job_id}/events").json()["data"][0]
    assert (newest["level"], newest["message"]) == ("warn", "Fine tuning process stopping due to job cancellation")
    again = refused(client.post(f"{JOBS}/{job_id}/cancel"))
    assert "already ended (status cancelled)" in again["message"]
    assert client.post(f"{JOBS}/{job_id}/cancel", headers={"x-stainless-retry-count": "1"}).json() == job


def test_resume_that_a_client_repeats_is_answered_again(
    client: TestClient, create: Callable[..., Json], refused: Refused
) -> None:
    job_id = create()["id"]
    client.post(f"{JOBS}/{job_id}/pause")
    job = client.post(f"{JOBS}/{job_id}/resume").json()
    assert "not paused" in refused(client.post(f"{JOBS}/{job_id}/resume"))["message"]
    assert client.post(f"{JOBS}/{job_id}/resume", headers={"x-stainless-retry-count": "2"}).json() == job


def test_an_event_of_a_type_of_ours_keeps_to_the_published_ones(
    client: TestClient, create: Callable[..., Json], store: Store, valid: Valid
) -> None:
    job_id = create()["id"]
    _, lease = store.queue.claim("worker", [JobStatus.VALIDATING], 60) or pytest.fail("nothing to claim")
    store.queue.append(lease, [NewEvent("judged", type="moderation_checks", data={"rows": 10})])
    newest = client.get(f"{JOBS}/{job_id}/events").json()["data"][0]
    valid("FineTuningJobEvent", newest)
    assert (newest["type"], newest["data"]) == ("message", {"type": "moderation_checks", "rows": 10})


def test_cancel_takes_an_empty_body_with_a_content_type(client: TestClient, create: Callable[..., Json]) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "0"}
    assert client.post(f"{JOBS}/{create()['id']}/cancel", headers=headers).json()["status"] == "cancelled"


def test_pause_keeps_one_of_the_six_statuses_and_resume_ends_it(
    client: TestClient, create: Callable[..., Json], valid: Valid, refused: Refused
) -> None:
    job_id = create()["id"]
    paused = client.post(f"{JOBS}/{job_id}/pause").json()
    valid("FineTuningJob", paused)
    assert client.post(f"{JOBS}/{job_id}/resume").status_code == 200
    assert "not paused" in refused(client.post(f"{JOBS}/{job_id}/resume"))["message"]


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/checkpoints"),
    ],
)
def test_unknown_job_is_told_in_the_recorded_words(
    client: TestClient, refused: Refused, method: str, tail: str
) -> None:
    error = refused(client.request(method, f"{JOBS}/123{tail}"), 404)
    assert error == {
        "message": "Could not find fine tune: 123. GET /v1/fine_tuning/jobs lists the jobs of this project.",
        "type": "invalid_request_error",
        "param": "fine_tune_id",
        "code": "fine_tune_not_found",
    }
