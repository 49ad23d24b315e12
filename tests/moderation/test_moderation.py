"""The offline moderator, the report on a file's rows, and the two modes that act on it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetype import create_moderation_engine

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.moderation.moderator import CATEGORIES, CLEAN, Coverage, ModeratorUnavailable, Verdict, open_moderator
from tunesmith.moderation.report import LISTED
from tunesmith.moderation.rows import file_texts, moderate_file, moderate_rows
from tunesmith.moderation.word_rules import LANGUAGES, WordModerator, _Filter
from tunesmith.rows.codes import CODES
from tunesmith.settings import Settings


class Labelled(TypedDict):
    text: str
    language: str
    categories: list[str]


TEXTS: list[Labelled] = [
    json.loads(line) for line in (Path(__file__).parent / "texts.jsonl").read_text("utf-8").splitlines()
]
UNREADABLE = ("zh", "ru")
KNOWN_MISSES = {"disgrace to your family", "subhuman", "Sei un idiota"}  # no words for these, and no Italian at all


@pytest.fixture(scope="module")
def moderator() -> WordModerator:
    return WordModerator()


def chat(question: str, answer: str, system: str | None = None) -> JsonObject:
    messages: list[JsonValue] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


class Counting:
    """A moderator that flags texts with a word in them and remembers what it was asked."""

    name = "counting"
    coverage = Coverage(CATEGORIES, "one word")

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[str] = []
        self.fails_at = fails_at

    def moderate(self, texts: Sequence[str]) -> list[Verdict | None]:
        self.asked += texts
        if self.fails_at is not None and len(self.asked) >= self.fails_at:
            raise ModeratorUnavailable("It is closed.")
        return [
            None
            if "unreadable" in text
            else Verdict({"violence": 0.9, "hate": 0.1}, ("violence",))
            if "bad" in text
            else CLEAN
            for text in texts
        ]


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row["text"][:40])
def test_hand_made_texts_are_moderated_in_the_categories_that_are_covered(
    moderator: WordModerator, row: Labelled
) -> None:
    (verdict,) = moderator.moderate([row["text"]])
    if row["language"] in UNREADABLE:
        assert verdict is None
        return
    assert verdict is not None
    expected = set(row["categories"]) & set(moderator.coverage.categories)
    if any(part in row["text"] for part in KNOWN_MISSES):
        assert not verdict.flagged, "no longer missed: take it off the list in this test and in docs/safety.md"
    else:
        assert set(verdict.flagged) == expected


def test_scores_above_one_half_are_flagged_and_only_those(moderator: WordModerator) -> None:
    for verdict in moderator.moderate([row["text"] for row in TEXTS]):
        if verdict is not None:
            assert set(verdict.flagged) == {name for name, score in verdict.scores.items() if score >= 0.5}
            assert all(0 < score <= 1 and name in CATEGORIES for name, score in verdict.scores.items())


def test_coverage_names_what_is_missing(moderator: WordModerator) -> None:
    assert moderator.coverage.missing == (
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/intent",
        "sexual/minors",
        "violence",
        "violence/graphic",
    )
    assert moderator.name.startswith("safetype-")


@pytest.mark.parametrize(
    "text", ["k y s", "you st\u200bupid", "yоu are stuuupid", "YOU ARE SO STUPID!!!", "you are 5tup1d"]
)
def test_disguised_words_are_found(moderator: WordModerator, text: str) -> None:
    (verdict,) = moderator.moderate([text])
    assert verdict is not None
    assert "harassment" in verdict.flagged


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("", True),
        ("12345 !?", True),
        ("Grüße aus Køb, naïve café, Việt Nam", True),
        ("नमस्ते दुनिया", True),
        ("The word for tea is чай in Russian.", True),
        ("Привет, как дела? ok", False),
        ("今天天气", False),
        ("مرحبا بالعالم", False),
        ("สวัสดี", False),
        ("안녕하세요", False),
    ],
)
def test_texts_of_other_scripts_are_not_called_clean(moderator: WordModerator, text: str, readable: bool) -> None:
    assert moderator.moderate([text]) == [CLEAN if readable else None]


def rule_words() -> list[str]:
    rules = create_moderation_engine(languages=LANGUAGES, categories=("hate", "harassment", "sexual")).get_rules()
    words = {
        word.rstrip("*")
        for rule in rules
        for element in rule["pattern"].split()
        for word in element.rstrip("?").strip("()").split("|")
    }
    return sorted(words)


ENGINE = create_moderation_engine(mode="block", languages=LANGUAGES, categories=("hate", "harassment", "sexual"))
FILTER = _Filter([rule for rule in ENGINE.get_rules() if rule["category"] in ("hate", "harassment", "sexual")])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from([*rule_words(), "the", "xyz", "-", "a", "I"]), max_size=12),
    st.sampled_from([" ", "  ", "\n", ", ", "! "]),
)
def test_quick_filter_never_passes_over_what_the_rules_find(words: list[str], joint: str) -> None:
    for text in (joint.join(words), joint.join(words).upper(), joint.join(words).replace("i", "1").replace("a", "@")):
        if ENGINE.moderate(text).matches:
            assert FILTER.may_match(text), text


@pytest.mark.parametrize("row", [row for row in TEXTS if row["categories"]], ids=lambda row: row["text"][:40])
def test_quick_filter_passes_nothing_over_in_the_hand_made_texts(row: Labelled) -> None:
    assert FILTER.may_match(row["text"]) or not ENGINE.moderate(row["text"]).matches


def test_quick_filter_spares_the_rules_most_plain_texts() -> None:
    plain = [row["text"] for row in TEXTS if not row["categories"]]
    assert sum(map(FILTER.may_match, plain)) <= len(plain) // 3


def test_flagged_rows_carry_line_path_categories_and_scores(tmp_path: Path) -> None:
    rows = [
        chat("Hello", "Hi"),
        "",
        chat("Hello", "You are such a stupid idiot.", "You are kind."),
        chat("今天天气怎么样？", "晴"),
    ]
    lines = [json.dumps(row, ensure_ascii=False) if row else "" for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, "{broken", json.dumps({"messages": []})]), "utf-8")
    report = moderate_file(tmp_path / "rows.jsonl", Settings())
    assert report is not None
    (flagged,) = report.listed
    assert (flagged.line, flagged.path, flagged.categories) == (3, "messages[2].content", ("harassment",))
    assert flagged.scores == {"harassment": 0.8}
    assert (report.rows, report.flagged_rows, report.unread_rows, report.unread_texts) == (3, 1, 1, 2)
    (found,) = report.findings()
    assert (found.code, found.line, found.severity) == ("flagged", 3, CODES["flagged"].severity)
    assert "harassment 0.80" in found.message
    section = report.to_json()
    assert section["by_category"] == {"harassment": 1}
    not_covered: Any = section["not_covered"]
    assert not_covered["rows"] == 1
    assert "illicit" in not_covered["categories"]
    assert json.loads(json.dumps(section)) == section


def test_summary_never_says_clean_of_what_was_not_read(tmp_path: Path) -> None:
    report = moderate_file(write(tmp_path / "rows.jsonl", [chat("今天天气怎么样？", "晴")] * 3), Settings())
    assert report is not None
    assert "flagged no row of 3" in report.summary()
    assert "3 rows hold text it cannot read" in report.summary()
    assert "Not covered: illicit" in report.summary()


def test_system_prompt_is_moderated_once_however_many_rows_share_it(tmp_path: Path) -> None:
    moderator = Counting()
    rows = [chat(f"Question {number}", f"Answer {number}", "You are kind.") for number in range(600)]
    report = moderate_rows(file_texts(write(tmp_path / "rows.jsonl", rows)), moderator)
    assert (report.rows, report.texts) == (600, 1800)
    assert moderator.asked.count("You are kind.") == 1
    assert len(moderator.asked) == 1201


def test_all_flagged_rows_are_counted_and_the_first_listed() -> None:
    report = moderate_rows(
        [(number, [("prompt", f"bad {number}"), ("completion", "fine")]) for number in range(1, 301)], Counting()
    )
    assert report.flagged_rows == 300
    assert [row.line for row in report.listed] == list(range(1, LISTED + 1))
    assert report.by_category == {"violence": 300}
    assert report.listed[0].scores == {"violence": 0.9}


def test_every_kind_of_row_is_moderated_in_all_its_texts(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "say", "arguments": '{"text": "bad words"}'}}
    preference = {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    }
    calls = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}]}
    rows = [preference, calls, {"prompt": "bad", "completion": "x"}]
    found = {}
    for number, row in enumerate(rows):
        report = moderate_rows(file_texts(write(tmp_path / f"{number}.jsonl", [row])), Counting())
        found[number] = [flagged.path for flagged in report.listed]
    assert found == {
        0: ["non_preferred_output[0].content"],
        1: ["messages[1].tool_calls[0].function.arguments"],
        2: ["prompt"],
    }


def test_off_moderates_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [chat("Hi", "You are such a stupid idiot.")])
    assert moderate_file(path, Settings(moderation="off")) is None


def test_warn_refuses_nothing_and_block_names_the_row_and_the_cure(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [chat("Hi", "Hello"), chat("Hi", "You are such a stupid idiot.")])
    report = moderate_file(path, Settings(moderation="block"))
    assert report is not None
    assert report.refusal("warn") is None
    refusal = report.refusal("block")
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.param) == (400, "training_data_flagged", "training_file")
    assert "1 of 2 rows" in refusal.message
    assert "line 2" in refusal.message
    assert "'warn'" in refusal.message


def test_block_lets_an_unflagged_file_pass(tmp_path: Path) -> None:
    report = moderate_file(write(tmp_path / "rows.jsonl", [chat("Hi", "Hello")]), Settings(moderation="block"))
    assert report is not None
    assert report.refusal("block") is None


def test_moderator_that_gives_up_leaves_a_report_and_blocks_only_in_block() -> None:
    rows = [(number, [("prompt", f"text {number}")]) for number in range(1, 1001)]
    report = moderate_rows(rows, Counting(fails_at=600))
    assert not report.complete
    assert report.rows == 512
    assert "broke off after 512 rows: It is closed." in report.summary()
    assert report.refusal("warn") is None
    refusal = report.refusal("block")
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, "moderation_unavailable")


def test_settings_name_the_moderator() -> None:
    assert open_moderator(Settings()) is open_moderator(Settings(moderation="block"))
    assert open_moderator(Settings()).name.startswith("safetype")
    guard = open_moderator(
        Settings(moderation_url="http://127.0.0.1:9/v1/chat/completions", moderation_model="llama-guard3")
    )
    assert guard.name == "llama-guard3"
    with pytest.raises(ModeratorUnavailable, match="set `moderation_model`"):
        open_moderator(Settings(moderation_url="http://127.0.0.1:9/v1/chat/completions"))
    with pytest.raises(ValueError, match="moderation_url"):
        Settings(moderation_url="ftp://somewhere")


def test_key_of_the_service_is_not_shown_with_the_settings() -> None:
    assert "hidden-key" not in repr(Settings(moderation_api_key="hidden-key"))
