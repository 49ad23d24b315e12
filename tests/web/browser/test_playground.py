"""The playground in a browser: real pages, API, store and adapter; a stand-in for vLLM generates."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from tests.fake_vllm import BASE, FakeVllm, running
from tests.web.pages.test_playground import row

from tunesmith.models.adapters import read_manifest
from tunesmith.render.renderer import Renderer
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, JobStatus, NewFile, NewJob, Store, open_store
from tunesmith.web.site import create_site

ANSWER, TUNED = "Cloudy ☁ with puns.", "Rain 天气 at noon."
SYSTEM = "You are the weather."


@dataclass(frozen=True, slots=True)
class Served:
    """One server for all tests here: loading a base's renderer takes seconds."""

    base_url: str
    store: Store
    settings: Settings
    fake: FakeVllm


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(FakeVllm()) as fake:
        settings = Settings(data_dir=tmp_path_factory.mktemp("site") / "data", serve_remote={BASE: [fake.url]})
        store, pool = open_store(settings), Pool(settings)
        server = uvicorn.Server(uvicorn.Config(create_site(settings, store, pool), port=0, log_level="critical"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", store, settings, fake)
        server.should_exit = True
        thread.join(20)
        pool.close()
        store.close()


@pytest.fixture
def tuned(served: Served, random_adapter: Callable[[Path, int], Path], renderer: Renderer) -> str:
    store = served.store
    file = store.files.create(store.blobs.write([b"{}\n"]), NewFile("fine-tune", "x.jsonl"))
    job = store.jobs.create(NewJob(BASE, BASE, file.id, "acme", 1, {}, {"type": "supervised"}))
    for status, following in ((JobStatus.VALIDATING, JobStatus.QUEUED), (JobStatus.QUEUED, JobStatus.RUNNING)):
        _, lease = store.queue.claim("tests", [status], 60) or pytest.fail("nothing to claim")
        store.queue.set_status(lease, following, system_message=SYSTEM)
    adapter = random_adapter(served.settings.paths.jobs / job.id / "adapter", 2)
    served.fake.answers[str(adapter)] = [*renderer.encode(TUNED), min(renderer.eos_ids)]
    return store.queue.finish(lease, JobOutcome(adapter, 1, None)).planned_model


@pytest.fixture
def fake(served: Served, renderer: Renderer) -> FakeVllm:
    served.fake.ending = "done"
    served.fake.answers[BASE] = [*renderer.encode(ANSWER), min(renderer.eos_ids)]
    served.fake.bodies.clear()
    return served.fake


@pytest.fixture
def page(chromium: Browser, served: Served, fake: FakeVllm) -> Iterator[Page]:
    """A browser that is signed in."""
    context = chromium.new_context(base_url=served.base_url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/ui/sign-in")
    page.fill("#key", served.store.keys.create("browser")[0])
    page.press("#key", "Enter")
    page.wait_for_url("**/")
    yield page
    context.close()
    assert faults == []


def open_playground(page: Page, *models: str) -> None:
    page.goto("/ui/playground?" + "&".join(f"model={name}" for name in models))
    page.wait_for_selector("#playground[data-ready]", state="attached")


def ask(page: Page, question: str = "How is the weather?") -> None:
    page.fill("#turns li:last-child textarea", question)
    page.press("#turns li:last-child textarea", "Control+Enter")
    page.wait_for_selector("#send:not([disabled])")


def test_base_and_tuned_stream_side_by_side_and_each_says_what_answered(
    page: Page, tuned: str, served: Served, fake: FakeVllm
) -> None:
    open_playground(page, BASE, tuned, "ft:none")
    page.fill("#turns li:first-child textarea", "You are brief.")
    ask(page)
    base, own, missing = (page.locator(".column").nth(number) for number in range(3))
    expect(base.locator(".answer")).to_have_text(ANSWER)
    expect(own.locator(".answer")).to_have_text(TUNED)
    model = served.store.models.get(tuned) or pytest.fail("no model")
    digest = read_manifest(model.adapter_dir).sha256
    expect(base.locator(".proof")).to_contain_text("The base alone answered: adapter digest “none”")
    expect(base.locator(".proof")).to_have_attribute("data-adapter", "none")
    expect(own.locator(".proof")).to_contain_text(f"adapter digest {digest[:16]}…")
    expect(own.locator(".proof")).to_have_attribute("data-adapter", digest)
    expect(missing.locator("> .problem")).to_have_text(
        "There is no model named “ft:none”. Empty the field and click into it to choose one from the list."
    )
    tokens = len(fake.answers[BASE]) - 1
    expect(base.locator("[data-figure=tokens]")).to_contain_text(f"→ {tokens}")
    expect(base.locator("[data-figure=first]")).to_have_text(re.compile(r"[\d.]+ m?s"))
    expect(page.locator("#state")).to_contain_text(f"{BASE}: done. {tuned}: done. ft:none: failed")
    page.reload()
    page.wait_for_selector("#playground[data-ready]", state="attached")
    expect(own.locator(".answer")).to_have_text(TUNED)
    assert page.input_value("#turns li:last-child textarea") == "How is the weather?"
    assert own.locator("input").input_value() == tuned


def test_the_training_files_system_message_is_offered_and_never_forced(page: Page, tuned: str, served: Served) -> None:
    open_playground(page, BASE)
    system, hint = page.locator("#turns li:first-child textarea"), page.locator("#system-hint")
    expect(system).to_have_value("")
    page.click("#add-column")  # which is the newest tuned model
    expect(page.locator(".column input").nth(1)).to_have_value(tuned)
    expect(system).to_have_value(SYSTEM)
    expect(hint).to_be_visible()
    system.fill("You are brief.")
    expect(hint).to_be_hidden()
    page.reload()
    page.wait_for_selector("#playground[data-ready]", state="attached")
    expect(system).to_have_value("You are brief.")
    page.click("#clear")
    expect(system).to_have_value(SYSTEM)
    page.locator(".column input").nth(1).fill("")
    page.locator(".column input").nth(1).press("Tab")
    expect(system).to_have_value("")
    expect(hint).to_be_hidden()


def test_probabilities_are_read_by_keyboard_and_as_a_table(page: Page, fake: FakeVllm) -> None:
    open_playground(page, BASE)
    page.locator("#settings > summary").click()
    page.check("#set-logprobs")
    ask(page)
    column, tokens = page.locator(".column"), len(fake.answers[BASE]) - 1
    expect(column.locator(".answer")).to_have_text(ANSWER)  # the tokens make the same text
    assert column.locator(".token").count() == column.locator(".token-table tbody tr").count() == tokens
    column.locator(".answer").focus()
    page.keyboard.press("ArrowRight")
    first = column.locator(".token-table tbody tr").first
    expect(column.locator(".token-detail")).to_contain_text(first.locator("td").nth(1).inner_text())
    expect(column.locator(".token-detail")).to_contain_text("60.7")  # exp(-0.5) of what was likeliest instead


def test_probabilities_show_where_the_mouse_is(page: Page, fake: FakeVllm) -> None:
    open_playground(page, BASE)
    page.locator("#settings > summary").click()
    page.check("#set-logprobs")
    ask(page)
    for place in (2, 0):
        token = page.locator(".token").nth(place)
        token.hover()
        expect(token).to_have_class(re.compile(r"\bnow\b"))
        said = page.locator(".token-table tbody tr").nth(place).locator("td").all_text_contents()
        expect(page.locator(".token-detail")).to_have_text(re.compile("^" + re.escape(f"{said[0]} {said[1]}")))


def test_stop_ends_the_answer_at_the_server_too(page: Page, fake: FakeVllm) -> None:
    fake.ending = "endless"
    fake.answers[BASE] = fake.answers[BASE][:-1]
    open_playground(page, BASE)
    page.fill("#turns li:last-child textarea", "Hello")
    page.click("#send")
    expect(page.locator(".answer")).to_contain_text("Cloudy")
    page.click("#stop")
    assert fake.gone.wait(5)
    expect(page.locator("[data-figure=finish]")).to_have_text("stopped")


def test_settings_tools_and_schema_go_into_the_request(page: Page, fake: FakeVllm) -> None:
    open_playground(page, BASE)
    page.locator("#settings > summary").click()
    for name, value in {"temperature": "0.5", "top_p": "0.9", "max_tokens": "3", "seed": "7"}.items():
        page.fill(f"#set-{name}", value)
    ask(page)
    body = fake.bodies[-1]
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 3,
    }
    expect(page.locator("[data-figure=finish]")).to_have_text("cut at the limit")
    page.fill("#set-tools", "[{")
    ask(page)
    expect(page.locator("#tools-problem")).to_contain_text("This is not valid JSON")
    assert len(fake.bodies) == 1
    page.fill("#set-tools", '[{"type": "function"}]')
    ask(page)
    expect(page.locator(".column > .problem")).to_contain_text("tools[0].function")


def test_a_corrected_answer_becomes_a_row(page: Page) -> None:
    open_playground(page, BASE)
    page.fill("#turns li:first-child textarea", "You are brief.")
    ask(page, "What is 1 and 1?")
    page.click("[data-correct]")
    assert page.input_value(".correcting textarea") == ANSWER
    page.fill(".correcting textarea", "   ")
    page.click("[data-keep]")
    expect(page.locator(".correcting .problem")).to_contain_text("The last message is what the model is to say")
    page.fill(".correcting textarea", "It is 2.")
    page.click("[data-keep]")
    expect(page.locator("#corrections .kept li")).to_contain_text("It is 2.")
    assert page.request.get("/ui/playground/corrections.jsonl").json() == row(1)
    page.click("[data-go-on]")
    assert page.locator("#turns li").count() == 4
    page.locator("#corrections .kept button").click()
    expect(page.locator("#corrections")).to_contain_text("Ten such rows make a training file")


def test_ten_corrected_answers_become_a_training_file(page: Page) -> None:
    open_playground(page, BASE)
    headers = {"x-csrf-token": page.locator("body").get_attribute("data-csrf") or "", "hx-request": "true"}
    for number in range(1, 10):
        assert page.request.post("/ui/playground/corrections", data=row(number), headers=headers).ok
    page.fill("#turns li:first-child textarea", "You are brief.")
    ask(page, "What is 10 and 1?")
    page.click("[data-correct]")
    page.fill(".correcting textarea", "It is 11.")
    page.click("[data-keep]")
    page.get_by_role("button", name="Make a training file").click()
    page.locator("#corrections a[href*='/ui/files/file-']").click()
    expect(page.locator(".verdict.ok")).to_be_visible(timeout=60_000)
    content = page.request.get(f"/ui/api/v1/files/{page.url.rpartition('/')[2]}/content").text()
    assert [json.loads(one) for one in content.splitlines()] == [row(number) for number in range(1, 11)]


def test_a_models_page_shares_and_deletes_in_place(page: Page, tuned: str, served: Served) -> None:
    store = served.store
    other = store.projects.create("Research").id
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/ui/models/{tuned}")
    page.evaluate("() => { window.clipboard = navigator.clipboard; }")
    for hidden in (False, True):  # over plain HTTP a page has no navigator.clipboard
        if hidden:
            page.evaluate("() => Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        page.evaluate("() => window.clipboard.writeText('')")
        page.click("[data-copy=use-python]")
        expect(page.locator(".toast")).to_have_count(1 + hidden)
        assert f'model="{tuned}"' in page.evaluate("() => window.clipboard.readText()")
    page.select_option("#project", other)
    page.get_by_role("button", name="Share with this project").click()
    expect(page.locator("#sharing .shares")).to_contain_text(f"Research {other}")
    page.get_by_role("button", name="Take back from Research").click()
    expect(page.locator("#sharing")).to_contain_text("Only this project may use it.")
    assert store.of(other).models.page().data == ()
    store.projects.archive(other)
    page.get_by_role("button", name="Share with this project").click()
    expect(page.locator("#sharing-problem .problem")).to_contain_text(other)
    page.get_by_text("Delete this model …").click()
    page.get_by_role("button", name=f"Delete {tuned}").click()
    expect(page.get_by_role("status").filter(has_text="was deleted")).to_contain_text(tuned)
    assert store.models.get(tuned) is None
