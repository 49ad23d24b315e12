"""`tunesmith models add` and `pull`: bases of one's own."""

import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith.cli.settings_file import set_entry


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tunesmith.toml"


def test_unknown_base_tells_the_command_and_the_command_works(tunesmith: Tunesmith, file: Path) -> None:
    ran = tunesmith("models", "pull", "Qwen/Qwen2.5-0.5B")
    assert ran.code == 1
    command = "tunesmith models add qwen2.5-0.5b Qwen/Qwen2.5-0.5B"
    assert f"Add a base: {command}, then restart a server that is running." in ran.err
    added = tunesmith(*command.split()[1:])
    assert added.out == f"qwen2.5-0.5b is a base now (Qwen/Qwen2.5-0.5B; in {file})\n"
    assert "Next, download it: tunesmith models pull qwen2.5-0.5b" in added.err
    assert tomllib.loads(file.read_text("utf-8")) == {"bases": {"qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B"}}


def test_directory_is_added_by_its_whole_path_and_pulled_without_a_network(
    tunesmith: Tunesmith, base_dir: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base_dir.parent)
    assert tunesmith("models", "add", "mine", base_dir.name).code == 0
    assert tomllib.loads(file.read_text("utf-8")) == {"bases": {"mine": str(base_dir)}}
    pulled = tunesmith("models", "pull", "mine")
    assert pulled.out == f"mine is ready in {base_dir}\n"
    assert f"mine is the directory {base_dir}: nothing to download" in pulled.err


def test_directory_that_is_no_base_is_not_added(tunesmith: Tunesmith, tmp_path: Path, file: Path) -> None:
    ran = tunesmith("models", "add", "mine", tmp_path)
    assert ran.code == 1
    assert "Base mine cannot be used: its directory has no config.json" in ran.err
    assert f"({tmp_path})" in ran.err
    assert tunesmith("models", "add", "a:b", "owner/name").code == 1
    assert not file.exists()


TABLES = {
    "empty": ("", '[bases]\n"new" = "/n"\n'),
    "other table": ("port = 1\n[aliases]\na = 'b'\n", 'port = 1\n[aliases]\na = \'b\'\n\n[bases]\n"new" = "/n"\n'),
    "beside others": (
        '# mine\n[bases] # all\nold = "/o" # keep\n\n[aliases]\na = "b"\n',
        '# mine\n[bases] # all\n"new" = "/n"\nold = "/o" # keep\n\n[aliases]\na = "b"\n',
    ),
    "in place": ('[bases]\n"new" = "/x"\nnewer = "/y"\n', '[bases]\n"new" = "/n"\nnewer = "/y"\n'),
}


@pytest.mark.parametrize("case", TABLES)
def test_an_entry_is_set_and_all_else_stays(tmp_path: Path, case: str) -> None:
    path = tmp_path / "tunesmith.toml"
    before, after = TABLES[case]
    path.write_text(before, "utf-8")
    path.chmod(0o600)
    set_entry(path, "bases", "new", "/n")
    assert path.read_text("utf-8") == after
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_written_in_another_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tunesmith.toml"
    path.write_text('bases = { old = "/o" }\n', "utf-8")
    with pytest.raises(Exception, match=r'Add by hand:\n\[bases\]\n"new" = "/n"'):
        set_entry(path, "bases", "new", "/n")
    assert path.read_text("utf-8") == 'bases = { old = "/o" }\n'
