"""`tunesmith replay` as a command, killed and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith
from tests.replay.upstream import Reply, completion, error, teaching

from tunesmith.cli.commands.data import replay
from tunesmith.cli.exits import Exit
from tunesmith.cli.output import replay_views

KEY = "sk-0123456789-secret"
TEACHER = "ft:gpt-4o-mini-2024-07-18:acme::B1"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    rows = [
        {"messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": f"q{n}"}]}
        for n in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_rows_are_ready_for_the_check(tunesmith: Tunesmith, prompts: Path) -> None:
    with teaching() as teacher:
        ran = tunesmith("replay", prompts, "--teacher", TEACHER, "--upstream", teacher.url)
    assert ran.code == 0, ran.err
    assert "40 answers for $0.00168 in" in ran.out  # 100 tokens read and 10 written, at 0.30 and 1.20 a million
    assert ran.err.count("terms of") == 1
    checked = tunesmith("check", prompts.with_name("prompts.replay.jsonl"))
    assert checked.code == 0, checked.out
    assert "would change" not in checked.out  # the origin of an answer is not to be dropped
    assert KEY not in ran.out + ran.err


def test_second_time_nothing_is_asked_and_terms_are_not_named_again(tunesmith: Tunesmith, prompts: Path) -> None:
    with teaching() as teacher:
        for _ in range(2):
            ran = tunesmith("replay", prompts, "--teacher", TEACHER, "--upstream", teacher.url, "--json")
            assert ran.code == 0, ran.err
    assert sum(teacher.asked.values()) == 40
    assert "terms" not in ran.err
    assert ran.json["rows"] == 40  # type: ignore[index]


def test_a_cap_of_less_than_a_cent_is_said_in_dollars(tunesmith: Tunesmith, prompts: Path) -> None:
    with teaching() as teacher:
        ran = tunesmith("replay", prompts, "--teacher", TEACHER, "--upstream", teacher.url, "--max-cost", "0.00003")
    assert ran.code == Exit.FAILED
    assert "The cap of $0.00003 is reached: 40 rows are not asked yet." in ran.err


def test_killed_run_goes_on_without_asking_an_answered_row_again(prompts: Path, tmp_path: Path) -> None:
    with teaching(lambda text, _: Reply(200, completion(text), stall=0.03)) as teacher:
        command = [sys.executable, "-m", "tunesmith.cli", "replay", str(prompts), "--teacher", "t"]
        command += ["--upstream", teacher.url, "--concurrency", "2"]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": str(tmp_path / "data")}
        for stop_after in (8, 20):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while sum(teacher.answered.values()) < stop_after and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    rows = prompts.with_name("prompts.replay.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row)["messages"][-1]["content"] for row in rows] == [f"re: q{n}" for n in range(40)]
    # What was under way at a kill (two rows each time) may be asked again, with the same idempotency key.
    again = {text for text, times in teacher.asked.items() if times > 1}
    assert len(again) <= 4
    assert all(len(teacher.idempotency[text]) == 1 for text in again)
    assert sum(teacher.asked.values()) <= 44


def test_ctrl_c_keeps_the_answers_under_way(prompts: Path, tmp_path: Path) -> None:
    with teaching(lambda text, _: Reply(200, completion(text), stall=0.2)) as teacher:
        command = [sys.executable, "-m", "tunesmith.cli", "replay", str(prompts), "--teacher", "t"]
        command += ["--upstream", teacher.url, "--concurrency", "4"]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": str(tmp_path / "data")}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while sum(teacher.asked.values()) < 6 and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED, err
    assert "the same command goes on" in err
    asked = sum(teacher.asked.values())
    assert len(prompts.with_name("prompts.replay.jsonl").read_text("utf-8").splitlines()) == asked
    assert f"{asked} answers" in out
    assert max(teacher.asked.values()) == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--upstream", "https://api.openai.com/v1", "--key-env", "NO_SUCH_KEY"], Exit.NO_KEY, "NO_SUCH_KEY"),
        (["--upstream", "http://teacher.example/v1"], Exit.USAGE, "https"),
        (["--upstream", "https://me:pw@teacher.example/v1"], Exit.USAGE, "password"),
        (["--upstream", "ftp://127.0.0.1"], Exit.USAGE, "no http"),
        (["--upstream", "http://127.0.0.1:9", "--max-cost", "1"], Exit.USAGE, "no price"),
        (["--upstream", "http://127.0.0.1:9", "--extra", "{"], Exit.USAGE, "--extra is not JSON"),
        (["--upstream", "http://127.0.0.1:9", "--extra", '{"n": 2}'], Exit.USAGE, "'n'"),
    ],
    ids=["no key", "clear", "password", "scheme", "price", "json", "own field"],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    tunesmith: Tunesmith, prompts: Path, options: list[str], code: Exit, said: str
) -> None:
    ran = tunesmith("replay", prompts, "--teacher", "t", *options)
    assert ran.code == code, ran.err
    assert said in ran.err
    assert not prompts.with_name("prompts.replay.jsonl.journal").exists()


def test_file_with_bad_rows_is_refused_unless_they_are_skipped(tunesmith: Tunesmith, prompts: Path) -> None:
    with prompts.open("a") as file:
        file.write('{"text": "what is this?"}\n')
    with teaching() as teacher:
        arguments = ("replay", prompts, "--teacher", "t", "--upstream", teacher.url)
        ran = tunesmith(*arguments)
        assert ran.code == Exit.FAILED
        assert "line 41" in ran.err
        assert not teacher.asked
        assert tunesmith(*arguments, "--skip-bad").code == 0
    assert sum(teacher.asked.values()) == 40


def test_file_that_is_not_ours_is_not_written_over(tunesmith: Tunesmith, prompts: Path) -> None:
    output = prompts.with_name("mine.jsonl")
    output.write_text("mine", "utf-8")
    with teaching() as teacher:
        arguments = ("replay", prompts, "--teacher", "t", "--upstream", teacher.url, "--output", output)
        ran = tunesmith(*arguments)
        assert ran.code == Exit.FAILED
        assert "--overwrite" in ran.err
        assert output.read_text("utf-8") == "mine"
        assert tunesmith(*arguments, "--overwrite").code == 0
    assert teacher.asked == Counter({f"q{n}": 1 for n in range(40)})


def test_rows_without_an_answer_are_listed_and_fail_the_command(tunesmith: Tunesmith, prompts: Path) -> None:
    with teaching(lambda text, _: error(400, "no.") if text == "q3" else None) as teacher:
        ran = tunesmith("replay", prompts, "--teacher", "t", "--upstream", teacher.url)
    assert ran.code == Exit.FAILED
    assert "line 4:" in ran.err
    assert "39 answers in" in ran.out


def test_a_pipe_is_told_while_no_answer_comes(
    tunesmith: Tunesmith, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_views, "LINE_SECONDS", 0.2)
    monkeypatch.setattr(replay, "SHOWN_SECONDS", 0.1)
    with teaching(lambda text, times: error(500, "down") if times == 0 else Reply(200, completion(text))) as teacher:
        ran = tunesmith("replay", prompts, "--teacher", "t", "--upstream", teacher.url, "--concurrency", "40")
    assert ran.code == 0, ran.err
    assert "0 of 40 answered" in ran.err
