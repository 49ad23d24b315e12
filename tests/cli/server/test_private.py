"""Other users of the machine read nothing of a data directory, whoever makes it.

What a first training leaves is looked at in tests/security/test_children.py.
"""

import stat
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import JOKES, Tunesmith

from tunesmith.cli.data_dir import secure_data_dir
from tunesmith.settings import Settings


def test_open_directory_is_closed_at_the_next_start_with_one_line(tunesmith: Tunesmith, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    assert tunesmith("keys", "create", "first").code == 0
    (data_dir / "jobs" / "ftjob-1").mkdir()
    (data_dir / "jobs" / "ftjob-1" / "attempt-1.log").write_text("rows")
    (data_dir / "notes.txt").write_text("somebody's")
    for path in (data_dir, *data_dir.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    ran = tunesmith("keys", "list")
    assert ran.code == 0
    assert ran.err.count(f"Other users could read {data_dir}: took their rights from ") == 1
    assert open_to_others([data_dir, *data_dir.rglob("*")]) == [
        f"{data_dir / 'notes.txt'} 0o644"
    ]  # in a closed directory
    assert "Other users" not in tunesmith("keys", "list").err


def test_directory_that_others_must_enter_stays_open(tmp_path: Path) -> None:
    shared = tmp_path / "like-tmp"
    (shared / "jobs").mkdir(parents=True)
    (shared / "jobs").chmod(0o755)
    shared.chmod(0o1777)
    secure_data_dir(Settings(data_dir=shared))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert stat.S_IMODE((shared / "jobs").stat().st_mode) == 0o700


def test_report_for_the_user_is_private_too(tmp_path: Path, base_dir: Path) -> None:
    command = [sys.executable, "-m", "tunesmith.cli", "check", str(JOKES), "--html", str(tmp_path / "report.html")]
    ran = subprocess.run(command, umask=0o022, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o600


def open_to_others(paths: list[Path]) -> list[str]:
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    return [f"{path} {oct(mode)}" for path, mode in modes.items() if mode & 0o077]
