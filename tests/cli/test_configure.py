"""Settings of a command, the next command to type, and which error ends with which exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith import cli
from tunesmith.cli import dataset
from tunesmith.cli.configure import again, load_settings, program
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import DataDir
from tunesmith.cli.variables import check_variables
from tunesmith.client import ServerRefused, ServerUnreachable
from tunesmith.errors import InvalidRequest, TunesmithError
from tunesmith.settings import OLD_NAMES, Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "of-the-environment"))


def test_option_beats_the_environment_and_reaches_child_processes(tmp_path: Path) -> None:
    assert load_settings().paths.root == tmp_path / "of-the-environment"
    assert load_settings(tmp_path / "of-the-option").paths.root == tmp_path / "of-the-option"
    assert os.environ["TUNESMITH_DATA_DIR"] == str(tmp_path / "of-the-option")


def test_settings_file_lies_in_the_data_directory_of_the_option(tmp_path: Path) -> None:
    (tmp_path / "tunesmith.toml").write_text("port = 8123\n")
    assert load_settings(tmp_path).port == 8123
    assert load_settings(tmp_path, port=9000).port == 9000
    assert load_settings(tmp_path, port=None).port == 8123


def test_relative_data_directory_stays_the_same_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load_settings(Path("here"))
    assert os.environ["TUNESMITH_DATA_DIR"] == str(tmp_path / "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": "many"}, "--port is 'many': "),
        ({"lora_rank": 0}, "--lora-rank is 0: "),
        ({"adapter": "pearl"}, "--adapter is 'pearl': "),
    ],
)
def test_wrong_option_is_named_as_it_was_typed(options: dict[str, str | int | None], message: str) -> None:
    with pytest.raises(CommandError) as raised:
        load_settings(None, **options)
    assert raised.value.message.startswith(message)
    assert raised.value.exit_code == Exit.USAGE
    assert "tunesmith.toml" not in raised.value.message


def test_wrong_variable_says_where_to_correct_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_LORA_RANK", "big")
    with pytest.raises(CommandError) as raised:
        load_settings()
    assert raised.value.message.startswith("Setting lora_rank is 'big': ")
    assert raised.value.message.endswith("Correct TUNESMITH_LORA_RANK, or lora_rank in tunesmith.toml, or unset it.")


def test_cache_directory_of_the_file_reaches_compiled_code_and_child_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE_DIR", "forgotten")  # and taken back at the end
    monkeypatch.delenv("TUNESMITH_CACHE_DIR")
    load_settings(tmp_path)
    assert "TUNESMITH_CACHE_DIR" not in os.environ
    (tmp_path / "tunesmith.toml").write_text(f"cache_dir = '{tmp_path / 'cache'}'\n")
    load_settings(tmp_path)
    assert os.environ["TUNESMITH_CACHE_DIR"] == str(tmp_path / "cache")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TUNESMITH_PORTT", "TUNESMITH_PORT"),
        ("TUNESMITH_PROT", "TUNESMITH_PORT"),
        ("TUNESMITH_LIMIT_TOKEN_PER_MINUTE", "TUNESMITH_LIMIT_TOKENS_PER_MINUTE"),
        ("TUNESMITH_APIKEY", "TUNESMITH_API_KEY"),
        ("tunesmith_databse_url", "TUNESMITH_DATABASE_URL"),
    ],
)
def test_misspelt_variable_is_refused_with_the_name_that_is_meant(
    tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "3")
    ran = tunesmith("keys", "list")
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(f"error: There is no setting {variable}; did you mean {meant}?")


def test_variable_that_is_like_no_setting_is_warned_of(tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_IMAGE", "tunesmith:1")
    ran = tunesmith("keys", "list")
    assert ran.code == 0
    assert "warning: TUNESMITH_IMAGE is no setting, and changes nothing." in ran.err


def test_known_variables_are_passed_over() -> None:
    ours = [f"TUNESMITH_{name.upper()}" for name in (*Settings.model_fields, *OLD_NAMES)]
    kubernetes = ["TUNESMITH_SERVICE_HOST", "TUNESMITH_SERVICE_PORT_HTTP", "TUNESMITH_PORT_8000_TCP_ADDR"]
    commands = [
        "TUNESMITH_API_KEY",
        "TUNESMITH_BASE_URL",
        "TUNESMITH_DEBUG",
        "TUNESMITH_ACTIVITY",
        "tunesmith_port",
        "PATH",
    ]
    assert check_variables(dict.fromkeys([*ours, *kubernetes, *commands], "x")) == []


def test_variables_of_our_own_tests_are_known() -> None:
    where = ("Makefile", "bench", "scripts", "tests", ":!tests/cli", ":!scripts/settings_reference.py")
    command = ["git", "grep", "-hoE", "TUNESMITH_[A-Z_]+", "--", *where]
    named = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    invented = {"TUNESMITH_LISTEN_PORT", "TUNESMITH_MODEL_NAMES"}  # settings of tests/test_settings.py
    assert {"TUNESMITH_FUZZ_EXAMPLES", "TUNESMITH_WHEEL_TEST"} <= named
    assert check_variables(dict.fromkeys(named - invented - {"TUNESMITH_"}, "x")) == []


def test_misspelt_setting_of_the_file_is_refused_with_the_name_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "tunesmith.toml").write_text("prot = 8123\n")
    with pytest.raises(CommandError, match="There is no setting 'prot'; did you mean 'port'"):
        load_settings(tmp_path)


def test_next_command_names_the_data_directory_only_when_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    load_settings()
    assert again("jobs list") == "tunesmith jobs list"
    load_settings(tmp_path / "two words")
    assert again("jobs list") == f"tunesmith jobs list --data-dir '{tmp_path / 'two words'}'"


def test_program_is_named_by_its_path_where_the_shell_would_not_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "venv" / "bin" / "tunesmith"
    ours.parent.mkdir(parents=True)
    ours.write_text("#!/bin/sh\n")
    ours.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(ours)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert program() == str(ours)
    monkeypatch.setenv("PATH", str(ours.parent))
    assert program() == "tunesmith"
    other = tmp_path / "other"
    other.mkdir()
    (other / "tunesmith").write_text("#!/bin/sh\n")
    (other / "tunesmith").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert program() == str(ours)  # the shell would run another one


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("No.", Exit.JOB_FAILED), 4, "error: No.\n"),
        (TunesmithError("Broken [red]data[/red]."), 1, "error: Broken [red]data[/red].\n"),
        (InvalidRequest("Too long."), 1, "error: Too long.\n"),
        (ServerUnreachable("Nobody."), 3, "error: Nobody.\n"),
        (ServerRefused(401, "Wrong key."), 5, "error: Wrong key.\n"),
        (ServerRefused(403, "Not yours."), 5, "error: Not yours.\n"),
        (ServerRefused(404, "Not here."), 1, "error: Not here.\n"),
        (FileNotFoundError(2, "No such file or directory", "/x/y"), 1, "error: No such file or directory: /x/y\n"),
        (OSError("disk on fire"), 1, "error: disk on fire\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_error_is_one_line_and_its_exit_code(
    tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    raised_by_a_command(monkeypatch, error)
    ran = tunesmith("migrate")
    assert (ran.code, ran.err, ran.out) == (code, said, "")


def test_bug_of_ours_says_so_and_how_to_see_more(tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch) -> None:
    raised_by_a_command(monkeypatch, ZeroDivisionError("division by zero"))
    ran = tunesmith("migrate")
    assert ran.code == 70
    assert ran.err.startswith("error: ZeroDivisionError: division by zero. This is a bug in Tunesmith")
    assert "TUNESMITH_DEBUG=1" in ran.err
    assert ran.err.count("\n") == 1
    monkeypatch.setenv("TUNESMITH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.run(["migrate"])


def raised_by_a_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A command tree of one command that fails, in place of the real one."""
    import typer

    from tunesmith.cli import app as tree

    failing = typer.Typer(pretty_exceptions_enable=False)

    @failing.callback()
    def root() -> None:
        """A group, as the real one."""

    @failing.command()
    def migrate(data_dir: DataDir = None) -> None:
        raise error

    monkeypatch.setattr(tree, "command", lambda: failing)


def test_file_is_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert dataset.require_file(tmp_path / "rows.jsonl") == tmp_path / "rows.jsonl"
    for wrong, said in ((tmp_path / "no.jsonl", "There is no file"), (tmp_path, "name the .jsonl file in it")):
        with pytest.raises(CommandError, match=said) as raised:
            dataset.require_file(wrong)
        assert raised.value.exit_code == Exit.USAGE
    with pytest.raises(CommandError, match="is a pipe or a device"):
        dataset.require_file(Path("/dev/null"))


def test_method_is_one_of_openais() -> None:
    for known in (None, "supervised", "dpo", "reinforcement"):
        dataset.require_method(known)
    with pytest.raises(CommandError, match="'sft' is not a training method; use one of supervised, dpo"):
        dataset.require_method("sft")
