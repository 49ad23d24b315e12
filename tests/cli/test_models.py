"""`tunesmith models add` and `pull`: bases of one's own."""

import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith
from tests.cli.scripted_server import ScriptedServer

from tunesmith.cli.commands.models.add import _source
from tunesmith.cli.settings_file import set_entry
from tunesmith.models.registry import GgufFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tunesmith.toml"


def test_unknown_base_tells_the_command_and_the_command_works(tunesmith: Tunesmith, file: Path) -> None:
    ran = tunesmith("models", "pull", "Qwen/Qwen2.5-0.5B")
    assert ran.code == 1
    command = "tunesmith models add qwen2.5-0.5b Qwen/Qwen2.5-0.5B"
    assert f"Add a base: {command}, then restart a server that is running." in ran.err
    added = tunesmith(*command.split()[1:], "--no-pull")
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


GPT2 = '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}'
PATHS = {
    "m.gguf": "{here}/m.gguf is a GGUF file, which can be made a base: tunesmith models add m --from {here}/m.gguf.",
    "./gone": "There is no file or directory {here}/gone. Check the path, or give the name of a base.",
    "./gpt2": "Base gpt2 cannot be used: the family gpt2 is not supported:",
    "models/empty": "Base empty cannot be used: its directory has no config.json",
}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with paths that are no bases."""
    here = tmp_path / "here"
    for folder in ("gpt2", "models/empty"):
        (here / folder).mkdir(parents=True)
    (here / "gpt2" / "config.json").write_text(GPT2, "utf-8")
    (here / "m.gguf").touch()
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize("path", PATHS)
def test_of_a_path_given_for_a_model_the_cause_is_said(
    tunesmith: Tunesmith, paths: Path, jokes: Path, path: str
) -> None:
    said = PATHS[path].format(here=paths)
    for command in (("models", "pull", path), ("check", "--base", path, jokes), ("estimate", "--base", path, jokes)):
        assert f"error: {said}" in tunesmith(*command).err
    if path != "models/empty":  # which may be the name of a base of the server
        for command in (("train", "--model", path, jokes), ("chat", path, "Hi")):
            assert f"error: {said}" in tunesmith(*command).err


def test_the_servers_refusal_of_a_path_is_explained(
    run: Tunesmith, script: ScriptedServer, paths: Path, jokes: Path
) -> None:
    refusal = {"message": "Model models/empty is not available", "code": "model_not_available"}
    script.answer("POST /v1/fine_tuning/jobs", {"error": refusal}, status=400)
    ran = run("train", "--model", "models/empty", jokes)
    assert ran.err == (
        "error: Base empty cannot be used: its directory has no config.json, so it is not a usable Hugging Face"
        f" directory. ({paths}/models/empty)\n"
    )


def test_a_base_given_by_its_path_comes_with_the_commands_that_work(
    tunesmith: Tunesmith, base_dir: Path, jokes: Path
) -> None:
    ran = tunesmith("train", "--model", base_dir, jokes)
    name = base_dir.name.lower()
    command = f"tunesmith models add {name} {base_dir}"
    assert ran.err == (
        f"error: {base_dir} can be used as a base, but commands take the name of one. Add it: {command}, restart a"
        f" server that is running, and give the name {name}.\n"
    )
    assert tunesmith(*command.split()[1:]).code == 0
    assert tunesmith("models", "pull", name).out == f"{name} is ready in {base_dir}\n"


@pytest.mark.parametrize("where", ["models/empty", "./gpt2"])
def test_a_relative_place_in_the_settings_comes_with_the_path_to_write(
    tunesmith: Tunesmith, paths: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("TUNESMITH_BASES", f'{{"mine": "{where}"}}')
    ran = tunesmith("models", "pull", "mine")
    assert f"error: Base mine cannot be used: {where!r} in the setting `bases` is" in ran.err
    assert f"Write the whole path, {paths / where}: the server" in ran.err


def test_the_setting_base_model_is_named_when_it_is_a_path(
    tunesmith: Tunesmith, paths: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_BASE_MODEL", "./gpt2")
    ran = tunesmith("models", "pull")
    assert ran.err.startswith("error: Setting base_model: Base gpt2 cannot be used: the family gpt2")


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


def test_an_alias_is_set_used_by_commands_and_removed(tunesmith: Tunesmith, jokes: Path) -> None:
    base = "smollm2-135m-instruct"
    ran = tunesmith("models", "alias", "fast", "gpt-4o-mini")
    assert ran.out == f"fast stands for {base} now.\n"
    assert f"{base} is ready" in tunesmith("models", "pull", "fast").out
    assert tunesmith("models", "alias", "fast", "--remove").out == "fast is no longer set here.\n"
    assert "Model fast is not available" in tunesmith("models", "pull", "fast").err
    ran = tunesmith("models", "alias", "gpt-4o-mini", "--remove")
    assert ran.code == 1
    assert "was not set with this command" in ran.err
    assert '[aliases] gpt-4o-mini = ""' in ran.err
    for wrong in (("fast",), ("fast", base, "--remove")):
        assert tunesmith("models", "alias", *wrong).code == 2
    assert f"{base} is the name of a base itself" in tunesmith("models", "alias", base, base).err


def test_the_catalogue_is_listed_and_tells_its_sources_to_scripts(tunesmith: Tunesmith) -> None:
    shown = tunesmith("models", "catalogue").out
    [line] = [line for line in shown.splitlines() if line.lstrip().startswith("qwen3-0.6b")]
    assert line.split() == ["qwen3-0.6b", "Qwen/Qwen3-0.6B", "0.6", "40,960", "Apache-2.0", "0.0001"]
    entries = tunesmith("models", "catalogue", "--json").json
    assert isinstance(entries, list)
    [entry] = [entry for entry in entries if entry["name"] == "qwen3-0.6b"]
    assert entry["licence"]["source"].startswith("https://github.com/QwenLM/Qwen3/")


def test_a_file_is_written_down_without_ways_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path / "here")
    assert _source("m", "../m.gguf") == GgufFile(tmp_path.resolve() / "m.gguf")
