"""`tunesmith check` and `tunesmith estimate`: reports, wrong input, exit codes."""

import json
import os
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith.estimate.speed import Benchmark, benchmark_path, write_benchmark
from tunesmith.train.hardware import hardware_name

ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_check_of_a_good_file_reports_both_counts(tunesmith: Tunesmith, jokes: Path, base_dir: Path) -> None:
    ran = tunesmith("check", jokes)
    assert ran.code == 0
    assert "ready to train" in ran.out
    assert "724 an epoch as OpenAI counts" in ran.out
    assert "as smollm2-135m-instruct counts" in ran.out


def test_check_as_json_is_the_report(tunesmith: Tunesmith, jokes: Path, base_dir: Path) -> None:
    report = tunesmith("check", jokes, "--json").json
    assert isinstance(report, dict)
    assert report["ok"] is True
    assert report["examples"] == 12
    assert report["openai"]["tokens"] == 724


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ROW * 9, ["9 example(s)", "at least 10"]),
        (ROW * 10 + "{broken\n", ["line 11", "JSON"]),
        (ROW.encode() * 10 + '{"messages": "caf\xe9"}\n'.encode("latin-1"), ["line 11", "UTF-8"]),
        ("", ["is empty"]),
        ("question,answer\nHi,Hello\n" * 10, ["JSON"]),
        (ROW * 10 + '{"messages": [{"role": "user", "content": "Hi"}]}\n', ["line 11", "assistant"]),
    ],
    ids=["too few rows", "broken JSON", "not UTF-8", "empty", "CSV", "no answer"],
)
def test_check_of_a_faulty_file_names_the_fault_and_fails(
    tunesmith: Tunesmith, tmp_path: Path, content: str | bytes, words: list[str]
) -> None:
    ran = tunesmith("check", write(tmp_path / "rows.jsonl", content))
    assert ran.code == 1
    assert all(word.lower() in ran.out.lower() for word in words), ran.out


def test_check_of_a_missing_file_says_where_it_looked(tunesmith: Tunesmith) -> None:
    ran = tunesmith("check", "nowhere.jsonl")
    assert ran.code == 2
    assert ran.err.startswith("error: There is no file nowhere.jsonl.")
    assert str(Path.cwd()) in ran.err
    assert ran.out == ""


def test_check_of_a_directory_asks_for_a_file(tunesmith: Tunesmith, tmp_path: Path) -> None:
    ran = tunesmith("check", tmp_path)
    assert ran.code == 2
    assert "is a directory" in ran.err


def test_check_of_a_pipe_asks_for_a_file(tunesmith: Tunesmith, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows")
    ran = tunesmith("check", tmp_path / "rows")
    assert ran.code == 2
    assert "is a pipe or a device; write the rows to a file first." in ran.err


def test_check_with_an_unknown_base_fails(tunesmith: Tunesmith, jokes: Path) -> None:
    ran = tunesmith("check", jokes, "--base", "gpt-17")
    assert ran.code == 1
    assert "Model gpt-17 is not available" in ran.err


def test_check_with_an_unknown_method_names_the_known_ones(tunesmith: Tunesmith, jokes: Path) -> None:
    ran = tunesmith("check", jokes, "--method", "magic")
    assert ran.code == 2
    assert "supervised, dpo" in ran.err


def test_check_lists_no_more_findings_than_asked_for(tunesmith: Tunesmith, tmp_path: Path) -> None:
    rows = "".join(ROW.replace('"user"', f'"user{number}"') for number in range(30))
    ran = tunesmith("check", write(tmp_path / "rows.jsonl", rows), "--findings", 2)
    assert "line 2 " in ran.out
    assert "line 3 " not in ran.out
    assert "28 more" in ran.out


def test_same_fault_of_many_lines_is_one_entry(tunesmith: Tunesmith, tmp_path: Path) -> None:
    out = tunesmith("check", write(tmp_path / "rows.jsonl", "{broken\n" * 30)).out
    assert "lines 1, 2, 3" in " ".join(out.split())
    assert out.count("A key stands without quotes: `{broken`. Put it in double quotes.") == 1


def test_mask_preview_marks_the_answer_and_only_it(tunesmith: Tunesmith, jokes: Path, base_dir: Path) -> None:
    out = tunesmith("check", jokes, "--show", 1).out
    assert "⟦London is so rainy today that the ducks are asking for umbrellas!<|im_end|>⟧" in out.replace("\n", "")
    assert "line 1\n" in out
    assert "line 2\n" not in out


def test_estimate_shows_openai_price_beside_the_own_count(tunesmith: Tunesmith, jokes: Path, base_dir: Path) -> None:
    ran = tunesmith("estimate", jokes)
    assert ran.code == 0
    assert "training $0.04634: 5,792 tokens at $8.00 a million (gpt-3.5-turbo-0125" in ran.out  # 724 x 8 epochs
    assert "prices: OpenAI, 2026-11-29" in ran.out
    assert "96 (12 an epoch)" in ran.out
    assert "pays back" not in ran.out


@pytest.mark.parametrize(
    ("options", "model", "table", "dollars_a_million"),
    [
        ((), "gpt-3.5-turbo-0125", "OpenAI, 2026-11-29", 8.00),
        (("--price", "gpt-4o-mini"), "gpt-4o-mini-2024-07-18", "OpenAI, 2026-11-29", 3.00),
        (("--price", "ft:gpt-4.1-nano-2025-04-14:me::1"), "gpt-4.1-nano-2025-04-14", "OpenAI, 2026-11-29", 1.50),
        (("--price", "gpt-3.5-turbo@2023"), "gpt-3.5-turbo-0613", "OpenAI, 2023-10", 8.00),
        (("--base", "gpt-4.1-mini"), "gpt-4.1-mini-2025-04-14", "OpenAI, 2026-11-29", 5.00),
        (("--base", "smollm2-135m-instruct"), "gpt-3.5-turbo-0125", "OpenAI, 2026-11-29", 8.00),
    ],
    ids=["default", "short-name", "tuned-name", "2023", "base-of-openai", "base-of-ours"],
)
def test_estimate_compares_with_the_model_that_was_named(
    tunesmith: Tunesmith, jokes: Path, options: tuple[str, ...], model: str, table: str, dollars_a_million: float
) -> None:
    estimate = tunesmith("estimate", jokes, "--epochs", 2, *options, "--json").json
    assert isinstance(estimate, dict)
    openai = estimate["openai"]
    assert (openai["model"], openai["price_table"]) == (model, table)
    assert openai["dollars"] == round(openai["billed_tokens"] * dollars_a_million / 1e6, 6)


def test_estimate_of_a_model_billed_by_the_hour_is_not_known(tunesmith: Tunesmith, jokes: Path) -> None:
    assert "training $100.00 an hour" in tunesmith("estimate", jokes, "--price", "o4-mini").out
    estimate = tunesmith("estimate", jokes, "--price", "o4-mini", "--json").json
    assert isinstance(estimate, dict)
    assert estimate["openai"]["dollars"] is None
    assert estimate["openai"]["answers"]["dollars_per_1000"] > 0


def test_show_without_the_weights_prints_the_report_before_it_complains(
    tunesmith: Tunesmith, jokes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_BASES", '{"far": "nobody/nowhere-at-all"}')
    ran = tunesmith("check", "--base", "far", "--show", 1, jokes)
    assert ran.code == 1
    assert "ready to train" in ran.out
    assert "messages a row" in ran.out
    assert ran.err == (
        "error: far is not on this machine, so its tokens cannot be counted. Get it: tunesmith models pull far\n"
    )


def test_own_prices_come_from_a_file_or_the_setting(
    tunesmith: Tunesmith, jokes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write(tmp_path / "own.toml", "[models.house]\ntraining = 1000\ninput = 1\n[machine]\nwatts = 100\n")
    ran = tunesmith("estimate", jokes, "--price", "house", "--price-file", own, "--kwh-price", "0.3", "--epochs", "1")
    assert "training $0.724: 724 tokens at $1,000.00 a million (house; prices: own.toml)" in ran.out
    assert "then not known for 1,000 answers" in ran.out
    half = tunesmith("estimate", jokes, "--price-file", own)
    needs = "The cost of electricity needs the price of a kilowatt hour too"
    key = f"add the key machine.dollars_per_kwh to {own}, or give --kwh-price"
    assert (half.code, half.err) == (2, f"error: {needs}: {key}.\n")
    flag = tunesmith("estimate", jokes, "--watts", 100)
    assert flag.err == f"error: {needs}: give both --watts and --kwh-price, or neither.\n"
    monkeypatch.setenv("TUNESMITH_PRICE_FILE", str(own))
    assert tunesmith("estimate", jokes, "--price", "house", "--kwh-price", "0.3").code == 0
    broken = tunesmith("estimate", jokes, "--price-file", write(tmp_path / "broken.json", '{"models": 3}'))
    assert (broken.code, "models is 3; it has to be a table" in broken.err) == (2, True)


def test_estimate_follows_given_epochs(tunesmith: Tunesmith, jokes: Path, base_dir: Path) -> None:
    estimate = tunesmith("estimate", jokes, "--epochs", 2, "--batch-size", 5, "--json").json
    assert isinstance(estimate, dict)
    assert estimate["hyperparameters"]["n_epochs"] == 2
    assert estimate["total_steps"] == 6  # three steps of 5, 5 and 2 rows, twice
    assert estimate["openai"]["billed_tokens"] == 724 * 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--price", "gpt-9"], 2, "There is no price for 'gpt-9'"),
        (["--epochs", "0"], 1, "n_epochs is 0"),
        (["--epochs", "many"], 2, "Invalid value for '--epochs'"),
        (["--base", "nope"], 1, "Model nope is not available"),
    ],
)
def test_estimate_refuses_wrong_options_in_one_line(
    tunesmith: Tunesmith, jokes: Path, options: list[str], code: int, words: str
) -> None:
    ran = tunesmith("estimate", jokes, *options)
    assert ran.code == code
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_estimate_of_a_faulty_file_points_to_the_check(tunesmith: Tunesmith, tmp_path: Path) -> None:
    ran = tunesmith("estimate", write(tmp_path / "rows.jsonl", ROW * 3))
    assert ran.code == 1
    assert "tunesmith check" in ran.err


def test_html_report_is_one_page_without_addresses_of_others(
    tunesmith: Tunesmith, jokes: Path, tmp_path: Path, base_dir: Path
) -> None:
    ran = tunesmith("check", jokes, "--html", tmp_path / "report.html")
    assert ran.code == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "哈尔滨" in page
    assert "<script src" not in page


def test_fix_writes_a_fixed_copy_and_keeps_rows_it_cannot_fix(tunesmith: Tunesmith, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", ROW + "\n" + ROW + "{broken\n")
    ran = tunesmith("fix", source)
    assert ran.code == 0
    assert (tmp_path / "rows.fixed.jsonl").read_text() == ROW
    assert (tmp_path / "rows.fixed.jsonl.rejected").read_text() == "{broken\n"
    assert "1 of 3 rows" in ran.out
    assert "a job trains on at least 10 rows, and here is 1 row: add 9 or more." in ran.err


def test_fix_says_that_no_row_is_left_and_fails(tunesmith: Tunesmith, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    ran = tunesmith("fix", source, "--findings", "1")
    assert ran.code == 1
    assert "nothing was written" in ran.out
    assert "--prompt-field NAME --completion-field NAME" in " ".join(ran.out.split())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert tunesmith("fix", source, "--completion-field", "text").code == 0


def test_fix_of_rows_without_answers_fails(tunesmith: Tunesmith, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    row = {"messages": [{"role": "user", "content": "Hi"}], "id": 7}
    file.write_text("".join(json.dumps({**row, "id": n}) + "\n" for n in range(12)))
    ran = tunesmith("fix", file, "-o", tmp_path / "copy.jsonl")
    assert ran.code == 1
    assert "no job takes them until it is added" in ran.out


def test_fix_of_a_fine_file_has_nothing_to_do(tunesmith: Tunesmith, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", ROW)
    ran = tunesmith("fix", source)
    assert (ran.code, "nothing to fix" in ran.out) == (0, True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert tunesmith("fix", source, "-o", tmp_path / "copy.jsonl").code == 0
    assert (tmp_path / "copy.jsonl").read_text() == ROW


def test_fix_says_what_it_converted_and_which_keys_it_dropped(tunesmith: Tunesmith, tmp_path: Path) -> None:
    rows = "".join(f'{{"id": {n}, "instruction": "q{n}", "input": "", "output": "a"}}\n' for n in range(12))
    ran = tunesmith("fix", write(tmp_path / "rows.jsonl", rows))
    assert ran.code == 0
    assert "12 x Alpaca's (instruction, input, output)" in ran.out
    assert "12 x id" in ran.out
    assert "at least 10" not in ran.err


def test_fix_never_overwrites_unasked(tunesmith: Tunesmith, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", "\n" + ROW)
    assert tunesmith("fix", source).code == 0
    again = tunesmith("fix", source)
    assert again.code == 1
    assert "exists already" in again.err
    assert tunesmith("fix", source, "--overwrite").code == 0


def test_rows_of_the_validation_file_are_found(tunesmith: Tunesmith, jokes: Path, tmp_path: Path) -> None:
    lines = jokes.read_text("utf-8").splitlines(keepends=True)
    shared = write(tmp_path / "held-out.jsonl", ROW + lines[3])
    ran = tunesmith("check", jokes, "--validation", shared)
    assert ran.code == 0
    assert "line 4 The row is also in the validation file, in line 2." in " ".join(ran.out.split())
    assert re.search(r"ready to train, \d+ warnings", ran.out)
    report = tunesmith("check", jokes, "--validation", shared, "--json").json
    assert isinstance(report, dict)
    assert (report["counts"]["leak"], report["leaks"]["exact"], report["validation"]["examples"]) == (1, 1, 2)
    page = tmp_path / "report.html"
    tunesmith("check", jokes, "--validation", shared, "--html", page)
    assert "1 of its 2 rows are in the training file too" in page.read_text("utf-8")
    apart = tunesmith("check", jokes, "--validation", write(tmp_path / "apart.jsonl", ROW))
    assert "No row of the validation file" in apart.out


def test_near_duplicates_are_looked_for_when_asked(tunesmith: Tunesmith, jokes: Path, tmp_path: Path) -> None:
    first = jokes.read_text("utf-8").splitlines(keepends=True)[0]
    rows = write(tmp_path / "rows.jsonl", jokes.read_text("utf-8") + first.replace("today?", "today ?"))
    assert "nearly" not in tunesmith("check", rows).out
    assert "nearly" in tunesmith("check", rows, "--near-duplicates").out


def test_texts_are_judged_when_asked(tunesmith: Tunesmith, jokes: Path, tmp_path: Path) -> None:
    row = jokes.read_text("utf-8").splitlines()[0].replace("Will it rain", "You are such a stupid idiot. Will it rain")
    rows = write(tmp_path / "rows.jsonl", jokes.read_text("utf-8") + row + "\n")
    assert "moderation" not in json.loads(tunesmith("check", rows, "--json").out)
    told = tunesmith("check", rows, "--moderation")
    assert "Flagged: harassment 0.80." in told.out
    assert "Not covered: illicit" in told.err
    report = json.loads(tunesmith("check", rows, "--moderation", "--json").out)
    assert (report["moderation"]["flagged_rows"], report["counts"]["flagged"]) == (1, 1)
    assert report["warning_count"] == sum(report["counts"].values()) - report["error_count"]


def test_estimate_knows_the_time_once_it_was_measured(
    tunesmith: Tunesmith, jokes: Path, base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "bases").symlink_to(base_dir.parent)  # the base, but no measurement of this machine
    monkeypatch.setenv("TUNESMITH_CACHE_DIR", str(cache))
    monkeypatch.setenv("TUNESMITH_TRAIN_THREADS", "0")
    assert "--measure" in tunesmith("estimate", jokes).out
    hardware = f"{hardware_name()}, rank 16"
    measured = Benchmark("smollm2-135m-instruct", hardware, 100.0, 0.5, 10.0, 1_000_000_000, 1_000.0)
    write_benchmark(benchmark_path(cache, measured.base, hardware), measured)
    out = tunesmith("estimate", jokes, "--hourly-cost", "3.6").out
    assert "about 2m10s on this machine" in out  # 10 + 7,176 tokens / 100 + 96 steps x 0.5 = 129.76 s
    assert "training $0.12976; answers have no price" in out
    out = tunesmith("estimate", jokes, "--watts", "500", "--kwh-price", "0.3").out
    assert "training $0.00541;" in out  # 129.76 s of 500 W at $0.30 a kilowatt hour
