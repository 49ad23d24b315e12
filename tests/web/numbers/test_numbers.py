"""Every page over one filled store: it says the API's numbers and no others, and is Chinese where it is to be."""

import json
import re
import time
from collections import deque
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.statements import statements
from tests.web.numbers.chinese import english, latin
from tests.web.numbers.filled import fill
from tests.web.numbers.pages import Pages
from tests.web.numbers.words import Words, missing, unexplained

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.system import audit
from tunesmith.system.disk import disk_bytes
from tunesmith.system.memory import total_memory
from tunesmith.web.formats import size, span
from tunesmith.web.pages import ROUTES
from tunesmith.web.views.organization.usage import DAY

ELSEWHERE = {
    "/ui/overview": "a part of the overview",
    "/ui/jobs/rows": "a part of the list",
    "/ui/jobs/{id}/parts/{part}": "the parts of a job",
    "/ui/jobs/{id}/events.jsonl": "a file",
    "/ui/live/jobs/{id}": "tests/web/live",
    "/ui/live/curves": "tests/web/live",
    "/ui/files/{file_id}/state": "no number",
    "/ui/files/{file_id}/mask": "not of the API: test_files compares it with the renderer",
    "/ui/files/{file_id}/fix": "not of the API: test_files compares it with the file that it makes",
    "/ui/playground/corrections.jsonl": "a file",
    "/ui/model-card": "a file",
    "/ui/model-exports": "a part of a model's page",
    "/ui/model-exports/download": "a file",
    "/ui/sign-in": "no number",
    "/ui/link/{token}": "no number",
}
ROOM = r"([\d.]+ [kMGT]?B) of ([\d.]+ [kMGT]?B) free"


@pytest.fixture(autouse=True)
def no_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of health shows those of the whole process, which other tests caused."""
    monkeypatch.setattr(audit, "_refusals", deque())


def test_every_page_says_the_apis_numbers_and_no_others(
    browser: TestClient, store: Store, settings: Settings, base_dir: Path
) -> None:
    pages = Pages(browser, store, base_dir, fill(store, settings, browser))
    day = today()
    wrong = _wrong(browser, settings, pages, store)
    if today() != day:  # of some numbers, the API said yesterday's and the pages today's
        wrong = _wrong(browser, settings, pages, store)
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)


def today() -> int:
    """The day of UTC, by which usage is counted."""
    return int(time.time()) // DAY


def _wrong(browser: TestClient, settings: Settings, pages: Pages, store: Store) -> dict[str, list[str]]:
    """What is wrong on each page, in numbers and in its Chinese, and what it reads twice."""
    checks = pages.checks()
    assert {one.route for one in checks} == {
        one.path for one in ROUTES if "GET" in (one.methods or ())
    } - ELSEWHERE.keys()
    wrong = {}
    for one in checks:
        before = pages.get(one.again) if one.again else None
        with statements(store) as heard:
            answer = browser.get(one.address)
        assert answer.status_code == 200, one.address
        if heard.repeated():
            wrong[f"{one.address} reads twice"] = [*heard.repeated()]
        words = Words(answer.text).text
        said = [*one.said, *rooms(words, settings)]
        after = pages.get(one.again) if one.again else None
        answers = [one.answers, before, after]  # when a key was used last is written now and then
        if found := [*missing(words, said), *unexplained(words, said, answers)]:
            wrong[one.address] = found
        chinese = browser.get(one.address, headers={"accept-language": "zh"}).text
        if words_left := english(chinese, latin(json.dumps(answers))):
            wrong[f"{one.address} in Chinese"] = [f"{word}: {around}" for word, around in words_left]
    return wrong


def rooms(words: str, settings: Settings) -> list[str]:
    """What a page says of disk and memory: their sizes are the machine's; what is free changes while it is asked."""
    totals = [disk_bytes(settings.paths.root), total_memory()]
    found = re.findall(ROOM, words)
    assert [total for _, total in found] in ([], [size(one) for one in totals])
    meters = [one[0] for total in totals for one in re.finditer(rf"\d+ of {total}\b", words)]
    shares = [one[0] for one in re.finditer(r"(\d+) of 100 \w+ \1 %", words)]
    assert len(meters) + len(shares) == len(found)
    return [f"{free} of {total} free" for free, total in found] + meters + shares


def test_a_number_that_nobody_accounts_for_is_found() -> None:
    words = Words("<main><p>Steps <b>1,200</b> of 1.5</p><svg><title>7: 8</title></svg><pre>9</pre></main>").text
    assert words == "Steps 1,200 of 1.5 7: 8"
    assert missing(words, ["Steps 1,200", "Steps 1", "200 of 1", "of 1.5"]) == ["Steps 1", "200 of 1"]
    assert unexplained(words, ["Steps 1,200 of 1.5"], ["7: 9"]) == ["¤ 7: 8"] * 2  # around the one and the other
    assert unexplained(words, ["Steps 1,200 of 1.5"], ["7: 8"]) == []


def test_an_english_rest_on_a_chinese_page_is_found() -> None:
    page = '<main><p title="Tip">还剩 14 min，file-abc <b lang="en">Marked <i>so</i></b></p><code>ls</code> LoRA</main>'
    assert english(page, {"file-abc"}) == [("Tip", "Tip"), ("min", "还剩 14 min，file-abc")]


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (45, "45 s", "45 秒"),
        (840, "14 min", "14 分钟"),
        (200, "3 min 20 s", "3 分 20 秒"),
        (7500, "2 h 5 min", "2 小时 5 分钟"),
        (None, "–", "–"),
    ],
)
def test_spans_are_spelled_by_language(seconds: float | None, english: str, chinese: str) -> None:
    assert (span(seconds), span(seconds, "zh")) == (english, chinese)


def test_sizes_are_spelled_by_language() -> None:
    assert [size(one) for one in (0, 999, 1_000, 123_456, None)] == ["0 B", "999 B", "1.0 kB", "123 kB", "–"]
    assert [size(one, "zh") for one in (12, 1_500_000)] == ["12 字节", "1.5 MB"]
