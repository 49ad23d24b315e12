"""Exact and near duplicates, and leaks into the validation file: definitions, planted set, bounds."""

import importlib.util
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.rules.duplicates import LEADERS, find_near
from tunesmith.check.rules.leaks import find_leaks, index_file
from tunesmith.check.rules.shingles import MIN_SHINGLES, SKETCH, SLOTS, estimates, jaccard, shingles, sketches

Row = dict[str, list[dict[str, str]]]
ROOT = Path(__file__).parents[3]
QUESTION = "The boiler on the second floor makes a knocking sound every morning, what should I look at first?"
ANSWER = "Bleed the radiators from the lowest to the highest, then check that the pressure is between one and two bar."
CHINESE = "二楼的锅炉每天早上都会发出敲击声，请问我应该首先检查什么地方？需要马上找人来修理吗？"
CHINESE_ANSWER = "请先从最低的暖气片开始放气，然后检查压力是否在一到两巴之间，如果还有声音再联系维修人员。"
SYSTEM = "You are the patient assistant of a heating engineer and answer in at most three short sentences. " * 5


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_duplicates", ROOT / "bench" / "checking" / "duplicates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_duplicates"] = module
    spec.loader.exec_module(module)
    return module


def chat(question: str, answer: str, system: str | None = None) -> Row:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def different(count: int, seed: int = 3) -> list[Row]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(4000)]
    return [chat(" ".join(rng.choices(words, k=20)), " ".join(rng.choices(words, k=30)), SYSTEM) for _ in range(count)]


def near(path: Path) -> list[tuple[int, int, float]]:
    index = index_file(path)
    return find_near(index.whole, index.rows).pairs


def test_planted_duplicates_are_found_with_recall_and_precision_of_95_percent(
    bench: ModuleType, tmp_path: Path
) -> None:
    made = bench.planted(4000, seed=11)
    recall, precision, count = bench.score_duplicates(made, write(tmp_path / "rows.jsonl", made.rows))
    assert count > 200
    assert recall >= 0.95
    assert precision >= 0.95


def test_planted_leaks_are_found_with_recall_and_precision_of_95_percent(bench: ModuleType, tmp_path: Path) -> None:
    made = bench.planted(4000, seed=12)
    training, validation = (tmp_path / f"{name}.jsonl" for name in ("training", "validation"))
    write(training, made.rows[:3000])
    write(validation, made.rows[3000:])
    recall, precision, count = bench.score_leaks(made, training, validation, 3000)
    assert count > 50
    assert recall >= 0.95
    assert precision >= 0.95


def test_exact_duplicate_is_found_whatever_the_order_of_keys(tmp_path: Path) -> None:
    rows = different(12)
    turned = {"messages": [dict(reversed(message.items())) for message in rows[2]["messages"]]}
    report = check_file(write(tmp_path / "rows.jsonl", [*rows, turned]))
    (found,) = [one for one in report.warnings if one.code == "duplicate_row"]
    assert (found.line, found.value) == (13, "3")
    assert "line 3" in found.message
    section: Any = report.to_json()["duplicates"]
    assert section["rows"] == 1
    assert section["largest_groups"] == [{"rows": 2, "lines": [3, 13]}]


def test_near_duplicate_names_both_lines_and_the_similarity(tmp_path: Path) -> None:
    rows = [*different(12), chat(QUESTION, ANSWER), chat(QUESTION.replace("second", "third"), ANSWER)]
    report = check_file(write(tmp_path / "rows.jsonl", rows), CheckOptions(analysers=("duplicates", "near_duplicates")))
    (found,) = [one for one in report.warnings if one.code == "near_duplicate"]
    assert found.line == 14
    assert found.value == "13"
    assert "similarity 0.8" in found.message
    section: Any = report.sections["near_duplicates"]
    assert section["complete"] is True


def test_near_duplicates_in_chinese_are_found(tmp_path: Path) -> None:
    rows = [
        *different(5),
        chat(CHINESE, CHINESE_ANSWER),
        chat(CHINESE.replace("二楼", "三楼"), CHINESE_ANSWER),
        chat(
            "今天北京的天气怎么样？",
            "北京今天晴转多云，最高气温二十六度，晚上可能有小雨，出门请带伞，注意保暖，早点回家。",
        ),
    ]
    assert [(line, earlier) for line, earlier, _ in near(write(tmp_path / "rows.jsonl", rows))] == [(7, 6)]


def test_shared_system_prompt_makes_no_duplicates(tmp_path: Path) -> None:
    rows = different(40)
    assert len(SYSTEM) > 400
    assert near(write(tmp_path / "rows.jsonl", rows)) == []


def test_shared_tools_make_no_duplicates(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "description": SYSTEM * 3, "parameters": {}}}
    rows = [{**row, "tools": [tool]} for row in different(20)]
    assert near(write(tmp_path / "rows.jsonl", rows)) == []


def test_one_prompt_with_different_answers_is_no_near_duplicate_but_contradictory(tmp_path: Path) -> None:
    other = (
        "Do not touch anything and call the emergency service, the exhaust may be blocked and the burner overheated."
    )
    rows = [*different(12), chat("Why does it knock?", ANSWER), chat("Why does it knock?", other)]
    report = check_file(write(tmp_path / "rows.jsonl", rows), CheckOptions(analysers=("duplicates", "near_duplicates")))
    assert report.counts.get("near_duplicate", 0) == 0
    assert report.counts["contradictory_answers"] == 1


def test_rows_too_short_to_compare_are_left_alone(tmp_path: Path) -> None:
    rows = [chat("Is it on?", "Yes it is."), chat("Is it on?", "Yes it is!")]
    assert near(write(tmp_path / "rows.jsonl", rows)) == []
    assert sketches([b"Is it on?\nYes it is."])[0, SLOTS] == 0


def test_row_that_repeats_only_what_itself_repeats_another_is_found(tmp_path: Path) -> None:
    words = [f"word{number:03d}x" for number in range(100)]
    steps = [[f"changed{n:02d}" if n < step * 7 else words[n] for n in range(100)] for step in range(3)]
    rows = [chat("Say the words.", " ".join(step)) for step in steps]
    first, second, third = (shingles(json.dumps(row["messages"]).encode()) for row in rows)
    assert jaccard(first, third) < 0.8 <= min(jaccard(first, second), jaccard(second, third))
    assert [(line, earlier) for line, earlier, _ in near(write(tmp_path / "rows.jsonl", rows))] == [(2, 1), (3, 2)]


def test_large_group_of_near_duplicates_takes_few_comparisons(tmp_path: Path) -> None:
    rows = [chat(QUESTION, f"{ANSWER} Ticket {number}.") for number in range(300)]
    index = index_file(write(tmp_path / "rows.jsonl", rows))
    found = find_near(index.whole, index.rows)
    assert len(found.pairs) == 299
    assert len(found.groups) == 1
    assert found.comparisons < 300 * LEADERS


def test_reinforcement_rows_with_one_prompt_are_not_duplicates(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": QUESTION}], "answer": number} for number in range(12)]
    path = write(tmp_path / "rows.jsonl", rows)
    report = check_file(path, CheckOptions(method="reinforcement", analysers=("duplicates", "near_duplicates")))
    assert report.examples == 12
    assert {"duplicate_row", "near_duplicate"}.isdisjoint(report.counts)


def test_leaks_name_the_lines_of_both_files(tmp_path: Path) -> None:
    rows = different(20)
    validation = [*different(3, seed=4), rows[7], chat(QUESTION, ANSWER + " Good luck!")]
    training = [*rows, chat(QUESTION, ANSWER)]
    found = find_leaks(write(tmp_path / "t.jsonl", training), write(tmp_path / "v.jsonl", validation))
    assert [(line, other) for line, other, _ in found.exact] == [(4, 8)]
    assert [(line, other) for line, other, _ in found.near] == [(5, 21)]
    exact, close = found.findings()
    assert (exact.code, exact.line, close.code, close.line) == ("leak", 8, "near_leak", 21)
    assert found.to_json() == {"validation_rows": 5, "threshold": 0.8, "exact": 1, "near": 1, "complete": True}


def test_leaks_survive_blank_and_broken_lines(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in different(5)]
    (tmp_path / "t.jsonl").write_text(
        "\ufeff" + "\n\n".join([*rows, "{broken", json.dumps(chat(QUESTION, ANSWER))]), "utf-8"
    )
    (tmp_path / "v.jsonl").write_text("\n" + rows[1] + "\r\n" + json.dumps(chat(QUESTION + " Thanks", ANSWER)), "utf-8")
    found = find_leaks(tmp_path / "t.jsonl", tmp_path / "v.jsonl")
    assert [(line, other) for line, other, _ in found.exact] == [(2, 3)]
    assert [(line, other) for line, other, _ in found.near] == [(3, 13)]


def test_empty_files_have_no_leaks(tmp_path: Path) -> None:
    empty, full = write(tmp_path / "e.jsonl", []), write(tmp_path / "f.jsonl", different(3))
    for pair in ((empty, full), (full, empty), (empty, empty)):
        found = find_leaks(*pair)
        assert (found.exact, found.near, found.complete) == ([], [], True)


def slices(text: bytes) -> set[bytes]:
    dropped = set(range(33)) | set(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f")
    kept = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in text if byte not in dropped)
    return {kept[at : at + 6] for at in range(len(kept) - 5)}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_jaccard_is_that_of_the_sets_of_slices(one: str, other: str) -> None:
    first, second = slices(one.encode()), slices(other.encode())
    expected = len(first & second) / len(first | second) if first or second else 0.0
    assert jaccard(shingles(one.encode()), shingles(other.encode())) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from("ab cé中\n."), max_size=120), min_size=1, max_size=12))
def test_sketch_of_a_row_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    rows = [text.encode() for text in texts]
    together = sketches(rows)
    assert together.shape == (len(rows), SKETCH)
    for row, sketch in zip(rows, together, strict=True):
        assert np.array_equal(sketches([row])[0], sketch) or not sketch[SLOTS]
        kept = len(row.translate(None, bytes(range(33)) + b"."))
        assert sketch[SLOTS] == (kept >= MIN_SHINGLES + 5)


def test_sketches_estimate_the_similarity(bench: ModuleType) -> None:
    made = bench.planted(1500, seed=13)
    sources = [(row, source) for row, source in enumerate(made.sources) if source is not None]
    words = [bench_words(row) for row in made.rows]
    known = sketches(words)
    errors = [
        estimates(known[row], known[[source]])[0] - jaccard(shingles(words[row]), shingles(words[source]))
        for row, source in sources
    ]
    assert len(errors) > 100
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.06


def bench_words(row: Row) -> bytes:
    return "\n".join(message["content"] for message in row["messages"] if message["role"] != "system").encode()
