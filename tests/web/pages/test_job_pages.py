"""Overview, list of jobs, a job and several over one another: what they show is what the API says."""

import json
import re
import time
from html import unescape

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import SignIn
from tests.web.work import checkpoint, finish, new_file, new_job, running_job, train

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import JobRow, NewEvent, Store
from tunesmith.web.live import feed

HOSTILE = "<script>alert(1)</script>\"'>{{ 7*7 }}\u202e\u0000 end"
VERDICT: JsonObject = {"verdict": "better", "sentence": "On 40 rows, more is right: better", "before": "b", "rows": 40}


def text_of(page: str) -> str:
    """The words of a page, without tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def shown(page: str, name: str) -> str:
    """What stands at a place that the stream updates."""
    found = re.search(rf'data-shown="{name}">([^<]*)<', page)
    assert found is not None, name
    return unescape(found[1])


@pytest.fixture
def done(store: Store, settings: Settings) -> JobRow:
    """A job with 30 steps, three checkpoints, a validation file and a verdict."""
    lease = running_job(store, suffix="weather", validation_file=new_file(store, "valid.jsonl"))
    train(store, lease, 1, 30, 30)
    for number in (10, 20, 30):
        adapter = checkpoint(store, lease, settings.paths.jobs, number)
    return finish(store, lease, adapter, VERDICT | {"forgetting": True})


def test_an_empty_server_leads_to_the_first_file(browser: TestClient, store: Store) -> None:
    assert 'class="button primary" id="first-file" href="/ui/files"' in browser.get("/").text
    assert 'href="/ui/jobs/new"' in browser.get("/ui/jobs").text
    store.jobs.cancel(new_job(store).id)
    assert "No job is running or waiting." in browser.get("/").text


def test_overview_shows_work_models_errors_and_room(browser: TestClient, store: Store, done: JobRow) -> None:
    lease = running_job(store, suffix="at-work")
    train(store, lease, 1, 50, 200, ends=int(time.time()) + 3_000)
    broken = running_job(store, suffix="broken")
    store.queue.fail(broken, code="bad", message="Line 7: no answer. Run: tunesmith fix train.jsonl")
    store.jobs.pause(new_job(store, suffix="waiting").id)
    page = browser.get("/ui/overview").text
    words = text_of(page)
    assert "at-work" in words
    assert re.search(r"Step 50 of 200 · (50 min|49 min 5\d s) left", words)
    assert '<polyline points="2.0,2.0' in page
    assert "Training loss from 1.995 to 1.750" in page
    assert "waiting smollm2-135m-instruct Paused" in words
    assert f"{done.fine_tuned_model} better {VERDICT['sentence']}" in words
    assert "Line 7: no answer. Run: tunesmith fix train.jsonl" in words
    assert re.search(r"Disk of the data directory [\d.]+ [GT]B of [\d.]+ [GT]B free", words)
    assert done.fine_tuned_model is not None
    store.models.delete(done.fine_tuned_model)
    assert done.fine_tuned_model not in browser.get("/").text


def test_a_trained_job_that_makes_its_verdict_is_not_running_at_100_percent(browser: TestClient, store: Store) -> None:
    lease = running_job(store, suffix="weather", validation_file=new_file(store, "valid.jsonl"))
    train(store, lease, 1, 29, 30)
    assert "Running" in text_of(browser.get("/ui/overview").text)
    train(store, lease, 30, 30, 30, ends=int(time.time()) + 120)
    for path in ("/ui/overview", "/ui/jobs/rows"):
        words = text_of(browser.get(path).text)
        assert "Comparing with the base" in words
        assert re.search(r"30 steps trained · (2 min|1 min 5\d s) left", words)
        assert "badge running" not in browser.get(path).text
    page = browser.get(f"/ui/jobs/{lease.job_id}").text
    assert 'badge comparing" role="status">Comparing with the base' in page
    assert "Base and tuned model now answer the same rows" in page
    assert "Comparing with the base" in browser.get(f"/ui/jobs/compare?job={lease.job_id}").text
    plain = running_job(store, suffix="plain", options={"evaluate": False}, validation_file=new_file(store, "v.jsonl"))
    train(store, plain, 1, 30, 30)
    assert 'badge running" role="status"' in browser.get(f"/ui/jobs/{plain.job_id}").text


@pytest.mark.parametrize("path", ["/ui/overview", "/ui/jobs/rows"])
def test_a_part_is_made_again_only_after_a_write(browser: TestClient, store: Store, path: str) -> None:
    new_job(store, suffix="first")
    made = browser.get(path)
    assert "first" in made.text
    again = browser.get(path, headers={"x-version": made.headers["x-version"]})
    assert (again.status_code, again.content) == (204, b"")
    new_job(store, suffix="second")
    changed = browser.get(path, headers={"x-version": made.headers["x-version"]})
    assert "second" in changed.text
    browser.cookies.clear()
    assert browser.get(path, headers={"x-version": changed.headers["x-version"]}).status_code == 303


def test_list_is_filtered_by_status_and_paged(browser: TestClient, store: Store, done: JobRow) -> None:
    made = [new_job(store, suffix=f"job-{n}") for n in range(30)]
    store.jobs.pause(made[0].id)
    store.jobs.cancel(made[1].id)

    def listed(query: str) -> list[str]:
        return re.findall(r'class="name" id="(ftjob-\w+)"', browser.get(f"/ui/jobs{query}").text)

    everything = [job.id for job in reversed([done, *made])]
    assert listed("") == everything[:25]
    assert f"after={everything[24]}" in browser.get("/ui/jobs").text
    assert listed(f"?after={everything[24]}") == everything[25:]
    assert listed("?status=paused") == [made[0].id]
    assert listed("?status=cancelled") == [made[1].id]
    assert listed("?status=succeeded") == [done.id]
    assert listed("?status=failed") == []
    assert listed("?status=queued") == everything[:25]
    assert listed(f"?status=queued&after={everything[24]}") == everything[25:28]
    assert listed("?status=nonsense") == everything[:25]
    assert "There is no job here with this status." in browser.get("/ui/jobs?status=failed").text


def test_a_jobs_numbers_are_the_apis(browser: TestClient, done: JobRow) -> None:
    page = browser.get(f"/ui/jobs/{done.id}").text
    wire = browser.get(f"/ui/api/v1/fine_tuning/jobs/{done.id}").json()
    words = text_of(page)
    assert f"Trained tokens {wire['trained_tokens']:,}" in words
    assert f"Model {wire['fine_tuned_model']}" in words
    for name, value in wire["hyperparameters"].items():
        assert f"{name} {value:g}" in words
    assert f"seed {wire['seed']}" in words
    newest = browser.get(f"/ui/api/v1/fine_tuning/jobs/{done.id}/events?limit=1000").json()["data"]
    step = next(one["data"] for one in newest if one["type"] == "metrics")
    assert shown(page, "step") == f"{step['step']} / {step['total_steps']}"
    assert shown(page, "loss") == f"{step['train_loss']:.3f}"
    assert shown(page, "accuracy") == "50.0 %"
    assert [one["message"] for one in newest if one["type"] == "message"] == re.findall(
        r"</time></span><span>([^<]*)</span>", page
    )
    checkpoints = browser.get(f"/ui/api/v1/fine_tuning/jobs/{done.id}/checkpoints").json()["data"]
    assert re.findall(r'id="ask-(\d+)"', page) == [str(one["step_number"]) for one in checkpoints]
    assert "train.jsonl" in words
    assert "valid.jsonl" in words
    assert f'href="/ui/api/v1/files/{wire["result_files"][0]}/content"' in page
    assert str(VERDICT["sentence"]) in words
    assert f'href="/ui/evaluations/{done.id}"' in page
    assert "Training loss: 1.967 at step 1, 1.000 at step 30, lowest 1.000 at step 30." in words
    assert "Token accuracy: 50.0 % at step 1, 50.0 % at step 30, highest 50.0 % at step 1." in words
    assert "it has forgotten something" in words


def test_a_very_long_jobs_numbers_are_the_newest_at_once(
    browser: TestClient, done: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHUNK", 3)
    page = browser.get(f"/ui/jobs/{done.id}").text
    assert (shown(page, "step"), shown(page, "loss")) == ("30 / 30", "1.000")
    compared = browser.get(f"/ui/jobs/compare?job={done.id}").text
    assert "weather Status Succeeded Step 30 / 30 Training loss 1.000" in text_of(compared)
    monkeypatch.setattr(feed, "SECONDS", 0.0)
    found = [browser.get(f"/ui/live/curves?job={done.id}").json() for _ in range(2)]
    assert [one["active"] for one in found] == [True, False]
    assert len(found[1]["jobs"][done.id]["train_loss"]) == 30


def test_table_is_there_for_those_who_do_not_see_the_curve(browser: TestClient, done: JobRow) -> None:
    page = browser.get(f"/ui/jobs/{done.id}/parts/table").text
    rows = re.findall(r'<th scope="row" class="number">(\d+)</th><td class="number">([\d.]+)</td>', page)
    assert rows == [(str(n), f"{2 - n / 30:.3f}") for n in range(1, 31)]


def test_a_failed_job_shows_the_apis_sentence_and_code(browser: TestClient, store: Store) -> None:
    lease = running_job(store)
    message = "Line 7: no answer. Run: tunesmith fix train.jsonl"
    store.queue.fail(lease, code="invalid_training_file", message=message, param="training_file")
    words = text_of(browser.get(f"/ui/jobs/{lease.job_id}").text)
    assert f"Why it failed {message} Code invalid_training_file · training_file" in words


def test_actions_are_those_of_the_state(browser: TestClient, store: Store) -> None:
    job = new_job(store)

    def actions() -> set[str]:
        page = browser.get(f"/ui/jobs/{job.id}").text
        return {name for name in ("pause", "resume", "cancel") if f'action="/ui/jobs/{job.id}/{name}"' in page}

    assert actions() == {"pause", "cancel"}
    answer = browser.post(f"/ui/jobs/{job.id}/pause")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/jobs/{job.id}")
    assert actions() == {"resume", "cancel"}
    assert browser.post(f"/ui/jobs/{job.id}/resume").status_code == 303
    assert actions() == {"pause", "cancel"}
    assert browser.post(f"/ui/jobs/{job.id}/cancel").status_code == 303
    assert actions() == set()
    found = store.jobs.get(job.id)
    assert found is not None
    assert found.status == "cancelled"
    again = browser.post(f"/ui/jobs/{job.id}/cancel")  # by another page that is older
    assert again.status_code == 400
    assert "has already ended (status cancelled): it cannot be cancelled." in again.text
    assert browser.post(f"/ui/jobs/{job.id}/delete").status_code == 404


def test_a_reader_may_look_only(sign_in: SignIn, store: Store) -> None:
    job, reader = new_job(store), sign_in("read-only")
    page = reader.get(f"/ui/jobs/{job.id}").text
    assert "<form method" not in page.split("<main")[1]
    assert "/ui/jobs/new?from" not in page
    assert "takes a key with the role member or owner" in page
    refused = reader.post(f"/ui/jobs/{job.id}/cancel")
    assert refused.status_code == 403
    assert "read-only" in refused.text
    found = store.jobs.get(job.id)
    assert found is not None
    assert not found.status.finished


def test_a_job_of_another_project_is_unknown(sign_in: SignIn, store: Store) -> None:
    job = new_job(store, project=store.projects.create("others").id)
    browser = sign_in()
    for path in ("", "/events", "/events.jsonl", "/parts/head"):
        assert browser.get(f"/ui/jobs/{job.id}{path}").status_code == 404
    assert browser.post(f"/ui/jobs/{job.id}/cancel").status_code == 404
    assert browser.get(f"/ui/live/curves?job={job.id}").json() == {"active": False, "jobs": {}}
    assert job.id not in browser.get("/ui/jobs").text
    assert "Could not find fine tune: ftjob-x" in browser.get("/ui/jobs/ftjob-x").text


def test_events_are_paged_and_downloaded(browser: TestClient, store: Store) -> None:
    lease = running_job(store)
    store.queue.append(lease, [NewEvent(f"word {n}", level="warn") for n in range(60)])
    train(store, lease, 1, 5, 9)
    page = browser.get(f"/ui/jobs/{lease.job_id}").text
    assert [f"word {n}" in page for n in (59, 10, 9)] == [True, True, False]
    older = re.search(r'id="older-events" href="([^"]+)"', page)
    assert older is not None
    rest = text_of(browser.get(unescape(older[1])).text)
    assert "Warning word 9 " in rest
    assert f"Created fine-tuning job: {lease.job_id}" in rest
    assert "Step 5/9" in browser.get(f"/ui/jobs/{lease.job_id}/events?steps=1").text
    answer = browser.get(f"/ui/jobs/{lease.job_id}/events.jsonl")
    assert f"{lease.job_id}-events.jsonl" in answer.headers["content-disposition"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    wire = browser.get(f"/ui/api/v1/fine_tuning/jobs/{lease.job_id}/events?limit=1000").json()["data"]
    assert lines == wire[::-1]


def test_curves_of_jobs_are_laid_over_one_another(browser: TestClient, store: Store, done: JobRow) -> None:
    lease = running_job(store, suffix="other")
    train(store, lease, 1, 2_000, 4_000)
    query = f"job={done.id}&job={lease.job_id}&job={done.id}"
    page = browser.get(f"/ui/jobs/compare?{query}").text
    words = text_of(page)
    assert "weather other Status Succeeded Running Step 30 / 30 2,000 / 4,000 Training loss 1.000 1.500" in words
    assert f'href="/ui/jobs/compare?job={lease.job_id}"' in page
    found = browser.get(f"/ui/live/curves?{query}").json()
    assert found["active"] is True
    assert found["jobs"][done.id]["train_loss"] == [[n, 2 - n / 30] for n in range(1, 31)]
    long = found["jobs"][lease.job_id]["train_loss"]
    assert (long[0], long[-1], len(long) <= 240) == ([1, 1.99975], [2_000, 1.5], True)
    many = "&".join(f"job={new_job(store).id}" for _ in range(7))
    assert "2 jobs are not shown" in browser.get(f"/ui/jobs/compare?{many}").text
    assert "No job chosen" in browser.get("/ui/jobs/compare?job=ftjob-x").text


def test_hostile_texts_stay_texts(browser: TestClient, store: Store, settings: Settings) -> None:
    lease = running_job(store, suffix=HOSTILE, model=HOSTILE, options={HOSTILE: [HOSTILE, "x" * 10_000]})
    train(store, lease, 1, 3, 3)
    store.queue.append(lease, [NewEvent(HOSTILE, level="error"), NewEvent("y" * 10_000)])
    job = finish(
        store, lease, checkpoint(store, lease, settings.paths.jobs, 3), {"verdict": HOSTILE, "sentence": HOSTILE}
    )
    broken = running_job(store, suffix="z" * 10_000)
    store.queue.fail(broken, code=HOSTILE, message=HOSTILE)
    paths = ("/", "/ui/jobs", f"/ui/jobs/{job.id}", f"/ui/jobs/{broken.job_id}", f"/ui/jobs/{job.id}/events?steps=1")
    for path in (*paths, f"/ui/jobs/compare?job={job.id}", "/ui/jobs?after=%22%3E%3Cscript%3E"):
        answer = browser.get(path)
        assert answer.status_code == 200, path
        assert "<script>" not in answer.text
        assert "49" not in re.findall(r"7\*7 }}|>49<", answer.text)
        assert "\"'>" not in answer.text


def test_pages_speak_chinese(browser: TestClient, store: Store, done: JobRow) -> None:
    for path in ("/", "/ui/jobs", f"/ui/jobs/{done.id}", f"/ui/jobs/compare?job={done.id}"):
        page = browser.get(path, headers={"accept-language": "zh-CN"}).text
        assert "任务" in text_of(page)
    assert "第 30 / 30 步" in browser.get("/ui/jobs", headers={"accept-language": "zh-CN"}).text
