"""Wrong commands, settings, servers and keys: one line on stderr, the documented exit code, never a traceback."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Server, Tunesmith


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["serve", "--prot", "1"], "No such option: --prot"),
        (["serve", "--port", "70000"], "Invalid value for '--port'"),
        (["check"], "Missing argument 'FILE'"),
        (["jobs", "show"], "Missing argument 'JOB'"),
        (["jobs", "sho"], "Did you mean 'show'? See: tunesmith jobs --help"),
        (["chat"], "Missing argument 'MODEL'"),
        (["serve", "--log-level", "loud"], "'loud' is not a log level"),
        (["train", "x.jsonl", "--epochs", "x"], "Invalid value for '--epochs': 'x' is not a whole number."),
        (["train", "x.jsonl", "--epochs", "1.5"], "Invalid value for '--epochs': '1.5' is not a whole number."),
        (["chat", "m", "--temperature", "hot"], "Invalid value for '--temperature': 'hot' is not a number."),
        (["chat", "m", "--temperature", "3"], "'--temperature': '3' is more than 2, the most it may be."),
        (["eval", "m", "--rows", "1"], "Invalid value for '--rows': '1' is less than 2, the least it may be."),
        (["chat", ""], "error: MODEL is empty: is a variable of the shell not set? See: tunesmith chat --help"),
        (["eval", " "], "error: MODEL|JOB is empty"),
        (["models", "pull", ""], "error: MODEL is empty"),
        (["models", "delete", "", "--yes"], "error: MODEL is empty"),
        (["models", "add", "mine", ""], "error: SOURCE is empty"),
        (["models", "replace", "old", ""], "error: NEW is empty"),
        (["jobs", "show", ""], "error: JOB is empty"),
        (["files", "delete", "", "--yes"], "error: FILE is empty"),
        (["keys", "revoke", ""], "error: KEY is empty"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(tunesmith: Tunesmith, arguments: list[str], words: str) -> None:
    ran = tunesmith(*arguments)
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


class Interrupted:
    """A module whose import is interrupted."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_during_the_imports_ends_quietly(tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tunesmith.cli.app", Interrupted())
    ran = tunesmith("--help")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_the_bare_command_names_the_first_steps(tunesmith: Tunesmith) -> None:
    said = " ".join(tunesmith().out.split())
    assert "First steps: `tunesmith demo` trains and compares a small model" in said
    assert "`tunesmith check FILE`, then `tunesmith train FILE`." in said


def test_a_name_that_cannot_be_replaced_comes_with_the_commands_that_list_names(tunesmith: Tunesmith) -> None:
    ran = tunesmith("models", "replace", "ft:a:b::c", "ft:d:e::f")
    assert ran.code == 1
    assert "`tunesmith models replacements` shows the imported names" in ran.err


def test_wrong_setting_names_the_variable(tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_PORT", "eight thousand")
    ran = tunesmith("serve")
    assert ran.code == 2
    assert "Setting port is 'eight thousand'" in ran.err
    assert "TUNESMITH_PORT" in ran.err


def test_unknown_setting_in_the_file_is_named(tunesmith: Tunesmith, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tunesmith.toml").write_text("prot = 8001\n")
    ran = tunesmith("keys", "list")
    assert ran.code == 2
    assert "There is no setting 'prot'" in ran.err


def test_broken_settings_file_is_a_sentence(tunesmith: Tunesmith, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tunesmith.toml").write_text("port = = 3\n")
    ran = tunesmith("keys", "list")
    assert ran.code == 2
    assert "tunesmith.toml cannot be read" in ran.err


@pytest.mark.parametrize(
    "arguments", [["jobs", "list"], ["models", "list"], ["chat", "some-model", "Hi"], ["jobs", "cancel", "ftjob-1"]]
)
def test_unreachable_server_is_code_3(
    tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    ran = tunesmith(*arguments, "--base-url", "http://127.0.0.1:9/v1")
    assert ran.code == 3
    assert "No server answers at http://127.0.0.1:9/v1" in ran.err


def test_missing_key_is_code_5(tunesmith: Tunesmith, server: Server) -> None:
    ran = tunesmith("jobs", "list", "--base-url", server.base_url)
    assert ran.code == 5
    assert "There is no API key" in ran.err
    assert "tunesmith keys create" in ran.err


def test_wrong_key_is_code_5_and_not_shown_in_full(
    tunesmith: Tunesmith, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", "sk-this-is-the-wrong-key-for-sure")
    ran = tunesmith("jobs", "list", "--base-url", server.base_url)
    assert ran.code == 5
    assert "Incorrect API key provided" in ran.err
    assert "sk-this-is-the-wrong-key-for-sure" not in ran.err


def test_unwritable_data_directory_is_a_sentence(tunesmith: Tunesmith, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    ran = tunesmith("keys", "list", "--data-dir", tmp_path / "file")
    assert ran.code == 1
    assert str(tmp_path / "file") in ran.err
    assert "Traceback" not in ran.err


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tunesmith.cli import run\nrun(['--help'])\n"
        "heavy = {'torch', 'transformers', 'httpx', 'fastapi', 'sqlalchemy', 'pydantic', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    started = time.monotonic()
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stderr.strip() == "[]"
    assert "train" in finished.stdout
    assert time.monotonic() - started < 3  # 0.3 s on an idle core; the list above is the real guard


def test_group_without_a_command_prints_its_help(tunesmith: Tunesmith) -> None:
    ran = tunesmith("jobs")
    assert ran.code == 2
    assert "resume" in ran.out
    assert ran.err == ""


def test_version_names_tunesmith_python_and_torch(tunesmith: Tunesmith) -> None:
    found = tunesmith("version", "--json").json
    assert isinstance(found, dict)
    assert sorted(found) == ["python", "torch", "tunesmith"]
    assert tunesmith("--version").out == f"tunesmith {found['tunesmith']}\n"


def test_closed_pipe_is_no_error(jokes: Path) -> None:
    command = f"{sys.executable} -m tunesmith.cli check {jokes} --json | head -1"
    finished = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert finished.stdout == "{\n"
    assert finished.stderr == ""
