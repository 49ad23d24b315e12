"""A start on a disk that is full or only read says so in one sentence, with the cure, and fails."""

import fcntl
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tests.small_disk import SmallDisk
from tests.small_disk import small_disk as small_disk

from tunesmith.cli import run
from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.system.audit import keep_audit_in, note_change
from tunesmith.system.disk import CURES

FULL, READ_ONLY = "is full", "can only be read: mount it for writing, or choose another directory"
COMMANDS = [["serve", "--port", "0"], ["worker"], ["keys", "list"], ["chat", "a-model", "hello"], ["jobs", "list"]]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` and `worker` set it for their children."""
    monkeypatch.setenv("TUNESMITH_ACTIVITY", "")


@pytest.fixture(params=[FULL, READ_ONLY], ids=["full", "read-only"])
def trouble(request: pytest.FixtureRequest, small_disk: SmallDisk) -> str:
    """What is wrong with the disk, in the words of the sentence."""
    if request.param == FULL:
        small_disk.fill()
    else:
        small_disk.allow_writing(False)
    return str(request.param)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_first_start_says_what_is_wrong_and_how_to_cure_it(
    command: list[str], small_disk: SmallDisk, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--data-dir", str(small_disk.folder / "data")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("error: ") == 1, said
    assert trouble in said
    assert "Traceback" not in said


def test_an_installation_whose_disk_has_become_read_only_says_so(
    small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_disk.folder / "data"
    open_store(Settings(data_dir=data)).close()
    small_disk.allow_writing(False)
    assert run(["keys", "list", "--data-dir", str(data)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"error: Read-only file system: {data}" in said
    assert said.endswith(f". The disk {READ_ONLY}.")


def test_the_worker_of_a_server_says_it_too(small_disk: SmallDisk) -> None:
    small_disk.allow_writing(False)
    command = [sys.executable, "-m", "tunesmith.worker"]
    environment = {"TUNESMITH_DATA_DIR": str(small_disk.folder / "data"), "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert ran.stderr == (
        f"error: the worker cannot start: Read-only file system: {small_disk.folder}/data. The disk {READ_ONLY}.\n"
    )


def test_an_audit_line_without_room_is_told_in_one_line_and_written_later(
    small_disk: SmallDisk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tunesmith.audit"), "handlers", [])  # of the commands above
    keep_audit_in(small_disk.folder)
    small_disk.fill()
    note_change("key.created", "first", who="user me", where="a test")
    said = capsys.readouterr().err
    assert said == f"warning: {small_disk.folder}/audit.log cannot be written: [Errno 28] No space left on device\n"
    small_disk.clear()
    note_change("key.created", "second", who="user me", where="a test")
    logging.getLogger("tunesmith.audit").handlers[0].close()
    lines = (small_disk.folder / "audit.log").read_text().splitlines()
    assert [f'"what": "{name}"' in line for name, line in zip(("first", "second"), lines, strict=True)] == [True, True]


@pytest.mark.parametrize("number", sorted(CURES))
def test_each_cure_is_one_sentence(number: int) -> None:
    assert CURES[number].count(".") == 0
    assert "or choose another directory" in CURES[number]


def test_temporary_files_that_nobody_writes_any_more_are_removed_at_the_start(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    left, held = ".base.json.123-1.partial", ".other.json.124-1.partial"
    for folder in (settings.paths.root, settings.paths.serve, settings.paths.checks):
        folder.mkdir(exist_ok=True)
        (folder / left).write_text("half")
    (settings.paths.serve / "base.json").write_text("{}")
    with (settings.paths.serve / held).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        open_store(settings).close()
    found = {path.name for path in tmp_path.rglob("*") if path.parent.name in ("serve", "checks", tmp_path.name)}
    assert found >= {"base.json", held}
    assert left not in found
