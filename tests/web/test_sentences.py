"""Sentences of the server on pages: what is typed is code, and what every job says is said in Chinese too."""

import re
import time

import pytest
from starlette.testclient import TestClient
from tests.evals.test_comparison import sides
from tests.web.test_language import CJK, HALF_WIDTH, OTHER_WORDS
from tests.web.work import checkpoint, finish, new_file, new_job, running_job, train

from tunesmith.evals import criteria, forgetting
from tunesmith.evals.comparison import compare, sentence
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web.sentences import FOLDER, KNOWN, LONGEST, spoken, translated
from tunesmith.worker.openai_events import COMPLETED, STARTED

VERDICT = "same text 0 % -> 100 % on 1,204 rows (+100, 95 % interval +51 to +100): better"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Run `tunesmith fix FILE`, then go on.", "Run <code>tunesmith fix FILE</code>, then go on."),
        ("`<b>` & `a`", "<code>&lt;b&gt;</code> &amp; <code>a</code>"),
        ("One ` alone <i>", "One ` alone &lt;i&gt;"),
        ("No ``code`` of `two\nlines`", "No ``code`` of `two\nlines`"),
        ("There is no eval 'x'. GET /v1/evals lists those of this project.", "There is no eval &#39;x&#39;."),
        ("Split it, send it in parts (POST /v1/uploads), or wait.", "Split it, send it in parts, or wait."),
        ("", ""),
    ],
    ids=["command", "hostile", "alone", "odd", "route", "route within", "empty"],
)
def test_what_is_to_be_typed_is_code_and_the_apis_routes_are_left_out(text: str, shown: str) -> None:
    assert spoken("en", text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (STARTED.message, "微调任务已开始"),
        (COMPLETED.message, "任务已成功完成"),
        (
            f"Verdict: {VERDICT}; 4 of 9 rows held out of the training file, drawn at random; "
            "2 of the rows are also in the training file, exactly or nearly",
            "结论：文本相同：1,204 行中 0 % → 100 %（+100，95 % 区间 +51 至 +100）：更好；"
            "随机抽取从训练文件留出的 9 行中的 4 行；其中 2 行也完全或近乎出现在训练文件里",
        ),
        ("Step 3/30: training loss=1.25, validation loss=2.50", "第 3/30 步：训练损失 1.25，验证损失 2.50"),
        ("not decisive, about 1,200 rows needed", "无法断定，约需 1,200 行"),
        ("The disk <is> full.", '<span lang="en">The disk &lt;is&gt; full.</span>'),
        ("better\nworse", '<span lang="en">better\nworse</span>'),
        ("", ""),
    ],
    ids=["started", "completed", "verdict", "step", "undecided", "unknown", "lines", "empty"],
)
def test_known_sentences_are_said_in_chinese_and_others_stay(text: str, shown: str) -> None:
    assert spoken("zh", text) == shown


def test_whatever_an_evaluation_says_is_known() -> None:
    names = [one.name for one in vars(criteria).values() if isinstance(one, criteria.Criterion)]
    assert len(names) >= 8
    for name in (*names, forgetting.NAME, "better", "worse", "not decisive"):
        assert translated("zh", name) is not None, name
    for shares, count in (((0.2, 0.9), 200), ((0.9, 0.2), 200), ((0.5, 0.52), 200), ((0.5, 0.5), 200), ((0.0, 1.0), 1)):
        for one in compare(*sides(*shares, count)):
            said = translated("zh", sentence(one)) or ""
            assert not re.search("[a-z]{4}", said.replace("JSON", "").replace("ROUGE-L", "")), said
            assert re.search(f"[{CJK}]", said), sentence(one)


def test_the_known_sentences_have_the_same_places_and_good_chinese() -> None:
    assert [file.stem for file in FOLDER.glob("*.json")] == ["zh"]
    for known in KNOWN["zh"]:
        assert set(known.pattern.groupindex) == set(re.findall(r"\{(\w+)\}", known.said)), known.said
        assert not HALF_WIDTH.search(known.said), known.said
        assert not OTHER_WORDS.search(known.said), known.said


def test_the_words_of_a_whole_job_are_chinese_on_a_chinese_page(
    browser: TestClient, store: Store, settings: Settings
) -> None:
    lease = running_job(store, validation_file=new_file(store, "valid.jsonl"))
    train(store, lease, 1, 3, 3)
    finish(
        store,
        lease,
        checkpoint(store, lease, settings.paths.jobs, 3),
        {
            "verdict": "better",
            "sentence": VERDICT,
            "before": "b",
            "rows": 1204,
            "forgetting": False,
            "file": "file-none",
        },
    )
    store.jobs.pause((waits := new_job(store, suffix="waits")).id)
    browser.headers["accept-language"] = "zh"
    for job, words in ((lease.job_id, "微调任务已开始"), (waits.id, "微调任务已暂停")):
        page = browser.get(f"/ui/jobs/{job}").text
        events = page.split('class="events"')[1].split("</ul>")[0]
        assert "已创建微调任务" in events
        assert words in events
        assert 'lang="en"' not in events
    for path in ("/ui/overview", "/ui/jobs/rows", "/ui/evaluations", "/ui/models", f"/ui/jobs/{lease.job_id}"):
        assert "文本相同：1,204 行中 0 % → 100 %" in browser.get(path).text, path
    assert "默认项目" in browser.get("/ui/projects").text
    assert "Default project" not in browser.get("/ui/keys").text


@pytest.mark.parametrize(
    "text",
    ["1 " * (LONGEST // 2), "9" * LONGEST, "Verdict: " * (LONGEST // 9), "better; " * (LONGEST // 8)],
    ids=["numbers", "digits", "verdicts", "parts"],
)
def test_hostile_sentences_take_no_time(text: str) -> None:
    began = time.process_time()
    spoken("zh", text)
    assert time.process_time() - began < 0.2
