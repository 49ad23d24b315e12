"""The pages of models: what they show is what store and API say, to those who may see it."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import SignIn

from tunesmith.export.cards.machine import Machine
from tunesmith.export.cards.training_record import BaseRecord, DataRecord, TrainingRecord, write_record
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest, write_manifest
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, JobStatus, NewCheckpoint, NewFile, NewJob, Store

BASE = "smollm2-135m-instruct"
VERDICT: JsonObject = {
    "verdict": "better",
    "sentence": "exact answers: 61 % to 92 %: better",
    "before": BASE,
    "rows": 40,
    "forgetting": None,
}
HOSTILE = "<script>alert(1)</script> \"'& ‮ row"
MakeModel = Callable[..., str]


@pytest.fixture
def make_model(store: Store, settings: Settings) -> MakeModel:
    """A tuned model and a checkpoint as a job leaves them: manifest, record and verdict beside the weights."""

    def make(project: str = "default", suffix: str = "weather", filename: str = "rows.jsonl") -> str:
        blob = store.blobs.write([b'{"messages": []}\n'])
        file = store.files.create(blob, NewFile("fine-tune", filename, project=project))
        new = NewJob(BASE, BASE, file.id, "acme", 1, {"n_epochs": 1}, {"type": "supervised"}, suffix=suffix)
        job = store.jobs.create(NewJob(**{**{name: getattr(new, name) for name in new.__slots__}, "project": project}))
        for status, following in ((JobStatus.VALIDATING, JobStatus.QUEUED), (JobStatus.QUEUED, JobStatus.RUNNING)):
            _, lease = store.queue.claim("tests", [status], 60) or pytest.fail("nothing to claim")
            store.queue.set_status(lease, following)
        store.queue.append(lease, [], total_steps=20)
        output = settings.paths.jobs / job.id / "output"
        manifest = AdapterManifest(BASE, "f" * 16, "r", 8, 16.0, ("q_proj",), step=20, sha256="a" * 64)
        for directory in (output / "checkpoints" / "step-000010", output / "adapter"):
            directory.mkdir(parents=True)
            write_manifest(directory, manifest)
        store.queue.add_checkpoint(lease, NewCheckpoint(10, output / "checkpoints" / "step-000010", {}))
        found = store.blobs.write([b"{}"])
        outcome = JobOutcome(output / "adapter", 6810, None, evaluation=found, verdict={**VERDICT, "file": found.id})
        done = store.queue.finish(lease, outcome)
        write_record(output / "adapter", record(done.planned_model, job.id, filename))
        sentences = [VERDICT["sentence"], "loss of the answers: 2.1 to 0.4: better"]
        (output / "adapter" / "evaluation.json").write_text(json.dumps({"verdict": "better", "sentences": sentences}))
        return done.planned_model

    return make


def record(model: str, job: str, filename: str) -> TrainingRecord:
    return TrainingRecord(
        model=model,
        job=job,
        created_at=1_700_000_000,
        step=20,
        sha256="a" * 64,
        base=BaseRecord(BASE, "f" * 16, "b" * 64, "apache-2.0"),
        started_from=None,
        training=DataRecord(filename, "c" * 64, 12_345, 1_234),
        validation=None,
        spec={"seed": 7},
        trained_tokens=6810,
        curves={},
        machine=Machine("Linux", "A <CPU>", (), 2),
    )


def shown(page: str) -> str:
    """The words of a page, without tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_lists_are_the_apis(browser: TestClient, make_model: MakeModel) -> None:
    names = [make_model(suffix=f"number-{number}") for number in range(2)]
    page = browser.get("/ui/models").text
    listed = [one["id"] for one in browser.get("/ui/api/v1/models").json()["data"]]
    linked = [html.unescape(name) for name in re.findall(r'class="mono" href="/ui/models/[^"]*">([^<]*)<', page)]
    tuned = [name for name in listed if name.startswith("ft:")]
    assert linked == [*reversed(tuned), BASE]
    assert set(names) <= set(tuned)
    words = shown(page)
    assert words.count("better exact answers: 61 % to 92 %: better") == 2  # of the models, not of their checkpoints
    assert words.count("Checkpoint, step 10") == 2
    assert all(alias in page for alias in listed if not alias.startswith("ft:"))
    assert "134,515,008" in words


def test_pages_go_on_where_the_last_ended(browser: TestClient, make_model: MakeModel) -> None:
    for number in range(11):
        make_model(suffix=f"n{number}")
    first = browser.get("/ui/models").text
    following = re.search(r'href="(/ui/models\?after=[^"]+)"', first) or pytest.fail("no next page")
    second = browser.get(html.unescape(following[1])).text
    pages = [re.findall(r'href="/ui/models/(ft[^"]*)"', page) for page in (first, second)]
    assert (len(pages[0]), len(pages[1])) == (20, 2)
    assert not set(pages[0]) & set(pages[1])
    assert "?after=" not in second


def test_nothing_tuned_says_what_to_do(browser: TestClient) -> None:
    assert "No tuned models yet" in browser.get("/ui/models").text
    assert "No older models." in browser.get("/ui/models?after=ft:none").text


def test_a_models_page_has_its_lineage_verdict_and_card(
    browser: TestClient, make_model: MakeModel, store: Store
) -> None:
    name = make_model()
    row = store.models.get(name) or pytest.fail("no model")
    page = browser.get(f"/ui/models/{name}").text
    words = shown(page)
    job = browser.get(f"/ui/api/v1/fine_tuning/jobs/{row.job_id}").json()
    for part in (
        "rows.jsonl · 1,234 rows",
        "c" * 64,
        "b" * 64,
        "a" * 64,
        "apache-2.0",
        "6,810 tokens learned",
        job["id"],
    ):
        assert part in words
    for address in (f"/ui/files/{job['training_file']}", f"/ui/jobs/{job['id']}", f"/ui/evaluations/{job['id']}"):
        assert f'href="{address}"' in page
    assert "loss of the answers: 2.1 to 0.4: better" in words
    assert "1 other model of this job" in words
    assert '<th scope="row">SHA-256 of the tuned weights</th><td><code>' in page
    assert "Linux, A <CPU> () , 2 threads".replace(" ,", ",") in words
    card = browser.get("/ui/model-card", params={"name": name})
    assert card.headers["content-disposition"].endswith('.md"')
    assert card.text.startswith(f"# {name}\n")


def test_a_checkpoint_has_a_page_without_a_verdict(browser: TestClient, make_model: MakeModel) -> None:
    make_model()
    listed = [one["id"] for one in browser.get("/ui/api/v1/models").json()["data"]]
    name = next(one for one in listed if one.endswith(":ckpt-step-10"))
    words = shown(browser.get(f"/ui/models/{name}").text)
    assert "A checkpoint on the way has no verdict of its own" in words
    assert "tunesmith models card ft:" in words


def test_lines_to_copy_call_this_server(browser: TestClient, make_model: MakeModel) -> None:
    name = make_model()
    cookie = f"tunesmith_session_8123={next(iter(browser.cookies.values()))}"
    page = browser.get(f"/ui/models/{name}", headers={"host": "127.0.0.1:8123", "cookie": cookie}).text
    python, curl = (html.unescape(page.split(f'id="use-{one}"')[1].split("</pre>")[0]) for one in ("python", "curl"))
    assert 'base_url="http://127.0.0.1:8123/v1"' in python
    assert f'model="{name}"' in python
    assert f'"model": "{name}"' in curl
    for kind in ("peft", "safetensors", "gguf", "ollama"):
        assert f"tunesmith export {name} --to {kind}" in page


def test_a_base_and_an_alias_have_pages(browser: TestClient) -> None:
    assert "134,515,008" in browser.get(f"/ui/models/{BASE}").text
    words = shown(browser.get("/ui/models/gpt-3.5-turbo").text)
    assert f"This name stands for the base {BASE}." in words
    missing = browser.get("/ui/models/ft:none")
    assert missing.status_code == 404
    assert "The model 'ft:none' does not exist" in html.unescape(missing.text)


def test_a_name_is_shown_and_requests_keep_the_models_own(sign_in: SignIn, make_model: MakeModel, store: Store) -> None:
    name, member, reader = make_model(), sign_in("member"), sign_in("read-only")
    fields, address = {"name": name, "display": "Weather <b> desk"}, "/ui/model-actions/rename"
    assert member.post(address, data=fields).headers["location"] == f"/ui/models/{quote(name)}"
    assert "<h1>Weather &lt;b&gt; desk</h1>" in reader.get(f"/ui/models/{name}").text
    assert "<strong>Weather &lt;b&gt; desk</strong>" in reader.get("/ui/models").text
    assert name in [one["id"] for one in reader.get("/ui/api/v1/models").json()["data"]]
    refusals = [
        (reader, fields, "read-only"),
        (member, {**fields, "display": "x" * 81}, "The name has 81 characters"),
        (member, {**fields, "name": "ft:none"}, "does not exist"),
        (sign_in("owner", store.projects.create("Other").id), fields, "does not exist"),
    ]
    for browser, given, words in refusals:
        refused = browser.post(address, data=given, headers={"hx-request": "true"})
        assert refused.status_code in (400, 403, 404)
        assert words in html.unescape(refused.text)
    assert member.post(address, data={"name": name}, headers={"hx-request": "true"}).status_code == 204
    assert "Weather" not in reader.get("/ui/models").text


def test_only_an_owner_deletes_and_the_name_is_asked_for(sign_in: SignIn, make_model: MakeModel) -> None:
    name, owner, member = make_model(), sign_in(), sign_in("member")
    assert "Only owners may delete models" in member.get(f"/ui/models/{name}").text
    refused = member.post("/ui/model-actions/delete", data={"name": name}, headers={"hx-request": "true"})
    assert refused.status_code == 403
    assert refused.text.startswith('<p class="problem"')
    assert f"Delete {name}" in owner.get(f"/ui/models/{name}").text
    gone = owner.post("/ui/model-actions/delete", data={"name": name}, headers={"hx-request": "true"})
    assert gone.status_code == 204
    assert f"{name} was deleted." in shown(owner.get(gone.headers["hx-redirect"]).text)
    assert owner.get(f"/ui/models/{name}").status_code == 404
    assert owner.post("/ui/model-actions/delete", data={"name": BASE}).status_code == 400


def test_a_model_is_shared_and_taken_back(
    sign_in: SignIn, make_model: MakeModel, store: Store, browser: TestClient
) -> None:
    name, other = make_model(), store.projects.create("Other & Co").id
    fields = {"name": name, "project": other}
    assert f"Other &amp; Co ({other})" in browser.get(f"/ui/models/{name}").text
    part = browser.post("/ui/model-actions/share", data=fields, headers={"hx-request": "true"})
    assert part.headers["hx-retarget"] == "#sharing"
    permission = browser.get(f"/ui/api/v1/fine_tuning/checkpoints/{name}/permissions").json()["data"][0]
    assert (permission["project_id"], permission["id"] in part.text) == (other, True)
    theirs = sign_in("member", other)
    page = theirs.get(f"/ui/models/{name}").text
    assert "Another project shares this model" in page
    assert "rows.jsonl" not in page
    assert "/ui/model-actions" not in page
    assert theirs.get("/ui/model-card", params={"name": name}).status_code == 404
    assert "Shared with you" in theirs.get("/ui/models").text
    fields = {"name": name, "permission": permission["id"]}
    assert browser.post("/ui/model-actions/unshare", data=fields).status_code == 303
    assert theirs.get(f"/ui/models/{name}").status_code == 404
    unknown = browser.post(
        "/ui/model-actions/share", data={"name": name, "project": "proj_none"}, headers={"hx-request": "1"}
    )
    assert (unknown.status_code, "hx-retarget" in unknown.headers) == (400, False)
    assert "proj_none" in unknown.text


def test_names_of_others_are_text(browser: TestClient, make_model: MakeModel) -> None:
    name = make_model(filename=HOSTILE + "x" * 200)
    page = browser.get(f"/ui/models/{name}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in browser.get("/ui/models", params={"deleted": HOSTILE}).text


def test_damaged_files_are_a_sentence_on_the_page(browser: TestClient, make_model: MakeModel, store: Store) -> None:
    name = make_model()
    row = store.models.get(name) or pytest.fail("no model")
    (row.adapter_dir / "card.json").write_text("{}")
    assert "card.json of this model is damaged" in browser.get(f"/ui/models/{name}").text
    (row.adapter_dir / "manifest.json").write_text("{}")
    answer = browser.get(f"/ui/models/{name}")
    assert (answer.status_code, "its manifest.json is damaged" in answer.text) == (200, True)


def test_bases_that_are_not_here_are_told_apart(settings: Settings, browser: TestClient, tmp_path: Path) -> None:
    settings.bases["far"] = "someone/far-away"
    words = shown(browser.get("/ui/models").text)
    assert re.search(r"far – – Not here yet –", words)
    assert "tunesmith models pull far" in browser.get("/ui/models/far").text
