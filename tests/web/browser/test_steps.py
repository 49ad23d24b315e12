"""What people do on pages, each once, on a real server with its worker and a tiny base."""

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.web.browser.server import BrowserServer
from tests.web.pages.test_files import SOUND, lines

LONG_MS = 120_000  # a trainer starts within seconds, on a busy machine within a minute
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const tell = (kind) => document.body.dispatchEvent(
    new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  tell("dragenter");
  const lit = document.getElementById("drop").classList.contains("over");
  tell("drop");
  return lit;
}"""
HEAR = """() => new MutationObserver(() => window.heard(document.getElementById("sending-text").textContent))
  .observe(document.getElementById("sending-text"), { childList: true })"""


@pytest.fixture(scope="module")
def api(server: BrowserServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/v1", headers={"authorization": f"Bearer {server.key}"}) as client:
        yield client


def drop_and_hear(page: Page, name: str) -> list[str]:
    """Drops a file of sound rows on the page; what was said until its own page came."""
    said: list[str] = []
    page.expose_function("heard", lambda text: said.append(text))  # Playwright asks for a function
    page.evaluate(HEAR)
    assert page.evaluate(DROP, [name, lines(SOUND).decode()]), "the page does not show that it takes the file"
    page.wait_for_url("**/ui/files/file-*")
    expect(page.locator(".verdict.ok")).to_be_visible(timeout=LONG_MS)
    return said


def content_of(page: Page, api: httpx.Client) -> bytes:
    return api.get(f"/files/{page.url.rpartition('/')[2]}/content").content


def test_a_dropped_file_is_sent_with_progress(page: Page, api: httpx.Client) -> None:
    page.goto("/ui/files")
    said = drop_and_hear(page, "dropped.jsonl")
    assert said[0] == "Sending dropped.jsonl: 0 %"
    assert said[-1] == "dropped.jsonl has arrived and is being checked …"
    expect(page.get_by_role("heading", level=1)).to_have_text("dropped.jsonl")
    assert content_of(page, api) == lines(SOUND)


def test_a_large_file_goes_in_parts(page: Page, api: httpx.Client) -> None:
    page.goto("/ui/files")
    size = len(lines(SOUND))
    page.evaluate("size => Object.assign(document.getElementById('drop').dataset, size)", {"whole": 100, "part": 1000})
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url.partition("/ui/api/v1")[2]) if one.method == "POST" else None)
    said = drop_and_hear(page, "large.jsonl")
    kinds = [re.sub("upload_[^/]+", "ID", one) for one in sent]
    parts = -(-size // 1000)
    assert parts > 1
    assert kinds == ["/uploads", *["/uploads/ID/parts"] * parts, "/uploads/ID/complete"]
    assert f"Sending large.jsonl: {100 * 1000 // size} %" in said
    assert content_of(page, api) == lines(SOUND)


def test_rows_are_looked_at_duplicates_side_by_side_and_their_masks(page: Page, names: dict[str, str]) -> None:
    page.goto(f"/ui/files/{names['file']}")
    one, other = (page.locator(".sides article").nth(place) for place in (0, 1))
    expect(one).to_contain_text("Is shop 2 open?")
    expect(other).to_contain_text("Is shop 2 open?")
    expect(one.locator("strong")).to_have_text("Line 3")
    expect(other.locator("strong")).to_have_text("Line 19")
    left, right = one.bounding_box(), other.bounding_box()
    assert left is not None
    assert right is not None
    assert (left["y"], left["x"] + left["width"] <= right["x"]) == (right["y"], True)
    learned = page.locator("#mask mark.learned .token")
    page.fill("#line", "5")
    expect(page.locator("#mask h3")).to_have_text("Line 5", timeout=LONG_MS)
    assert "".join(learned.all_text_contents()).startswith("Yes, shop 4 is.")
    shade = "one => getComputedStyle(one.closest('.learned, .read-only')).backgroundColor"
    assert learned.first.evaluate(shade) != page.locator("#mask .read-only .token").first.evaluate(shade)


def test_curves_of_two_jobs_lie_over_one_another(page: Page, names: dict[str, str]) -> None:
    page.goto("/ui/jobs")
    for name in ("curves", "others"):
        page.check(f"#compare-{names[name]}")
    page.get_by_role("button", name="Compare the chosen curves").click()
    expect(page.locator("[data-curve=train_loss] canvas")).to_be_visible()
    expect(page.locator("[data-curve=train_loss] .u-legend .u-label")).to_have_text(["Step", "others", "curves"])
    box = page.locator("[data-curve=train_loss] .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = page.locator("[data-curve=train_loss] .u-legend .u-value")
    expect(shown.first).to_have_text(re.compile(r"^\d+$"))
    values = shown.all_inner_texts()
    assert values[1] == values[2] == f"{2 - int(values[0]) / 40:.4g}".ljust(5, "0")  # the two jobs' steps are the same


def test_a_job_is_paused_resumed_trained_again_and_its_log_kept(
    page: Page, api: httpx.Client, names: dict[str, str]
) -> None:
    numbers = {"n_epochs": 50, "batch_size": 1}
    method = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    body = {"model": "tiny", "training_file": names["sound"], "seed": 7, "method": method}
    job = api.post("/fine_tuning/jobs", json=body).json()["id"]
    page.goto(f"/ui/jobs/{job}")
    badge, step = page.locator("#head .badge").first, page.locator("[data-shown=step]")
    expect(step).to_have_text(re.compile("^[1-9]"), timeout=LONG_MS)
    page.click("#pause")
    expect(badge).to_have_text("Paused")
    page.click("#resume")
    expect(page.locator("#pause")).to_be_visible()
    expect(badge).to_have_text("Running", timeout=LONG_MS)
    page.click("#again")
    assert {name: page.input_value(f"#{name}") for name in ("model", "training_file", "n_epochs", "seed")} == {
        "model": "tiny",
        "training_file": names["sound"],
        "n_epochs": "50",
        "seed": "7",
    }
    page.fill("#n_epochs", "2")
    page.get_by_text("Metadata and Weights & Biases").click()
    expect(page.locator(".pair:visible")).to_have_count(1)
    page.fill("[name=metadata_key_1]", "team")  # which brings the next pair
    expect(page.locator(".pair:visible")).to_have_count(2)
    page.fill("[name=metadata_value_1]", "shops")
    page.get_by_role("button", name="Create the job").click()
    page.wait_for_url(lambda url: "/ui/jobs/ftjob-" in url and job not in url)
    again = page.url.rpartition("/")[2]
    found = api.get(f"/fine_tuning/jobs/{again}").json()
    assert (found["seed"], found["method"]["supervised"]["hyperparameters"]["n_epochs"]) == (7, 2)
    assert found["metadata"] == {"team": "shops"}
    for one in (again, job):
        api.post(f"/fine_tuning/jobs/{one}/cancel")
    page.goto(f"/ui/jobs/{job}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as JSONL").click()
    kept = [json.loads(line) for line in download.value.path().read_text("utf-8").splitlines()]
    listed = api.get(f"/fine_tuning/jobs/{job}/events", params={"limit": 1000}).json()["data"]
    assert [one["id"] for one in kept][-1000:] == [one["id"] for one in reversed(listed)]


def test_flips_stand_beside_each_other_with_both_texts(page: Page, names: dict[str, str]) -> None:
    page.goto(f"/ui/evaluations/{names['job']}")
    page.locator("#flips").get_by_role("link", name=re.compile("^Gained")).click()
    page.wait_for_url(re.compile("kind=gained"))  # else the cards may be the list's before, which is about to go
    first = page.locator("article.flip").first
    expect(first.locator(".before pre")).to_have_text("I do not know")
    expect(first.locator(".after pre")).to_have_text(re.compile(r"^Label \d$"))
    left, right = (first.locator(f".{side}").bounding_box() for side in ("before", "after"))
    assert left is not None
    assert right is not None
    assert (left["y"], left["x"] < right["x"]) == (right["y"], True)


def test_two_runs_are_chosen_and_compared(page: Page, names: dict[str, str]) -> None:
    page.goto(f"/ui/evaluations/evals/{names['eval']}")
    page.select_option("#before", names["before"])
    page.select_option("#after", names["run"])
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#flips .tabs a")).to_have_text(["Gained (5)", "Lost (2)"])
    page.locator("#flips .tabs a").nth(1).click()
    expect(page.locator("article.flip h3")).to_have_text(["Row 11", "Row 12"])


def test_a_model_gets_a_name_to_show(page: Page, names: dict[str, str]) -> None:
    page.goto(f"/ui/models/{names['model']}")
    for name, shown in (("Weather desk", "Weather desk"), ("", names["model"])):
        page.get_by_text("Give it a name").click()
        page.fill("#display", name)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(shown)


def test_an_export_is_prepared_and_what_hinders_it_is_told(page: Page, names: dict[str, str]) -> None:
    page.goto(f"/ui/models/{names['model']}")
    page.get_by_role("button", name="Prepare peft").click()
    expect(page.locator("#exports progress")).to_be_visible()
    expect(page.get_by_role("button", name="Prepare gguf")).to_be_disabled()
    expect(page.locator("#exports .problem")).to_contain_text(
        "adapter_model.safetensors is missing", timeout=LONG_MS
    )  # it has no weights
    expect(page.get_by_role("button", name="Prepare gguf")).to_be_enabled()
