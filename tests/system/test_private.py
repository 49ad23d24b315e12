"""Which rights other users lose."""

import stat
from pathlib import Path

from tunesmith.system.private import tighten


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_tighten_takes_rights_from_the_whole_tree_and_counts(tmp_path: Path) -> None:
    deep = tmp_path / "jobs" / "ftjob-1" / "output"
    deep.mkdir(parents=True)
    (deep / "rows.jsonl").write_text("{}")
    for path, open_mode in ((tmp_path / "jobs", 0o755), (deep.parent, 0o700), (deep, 0o775)):
        path.chmod(open_mode)
    (deep / "rows.jsonl").chmod(0o644)
    assert tighten([tmp_path / "jobs"]) == 3
    assert [mode(path) for path in (tmp_path / "jobs", deep.parent, deep, deep / "rows.jsonl")] == [0o700] * 3 + [0o600]
    assert tighten([tmp_path / "jobs"]) == 0


def test_tighten_keeps_the_owners_own_rights_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    (tmp_path / "inside").mkdir(mode=0o700)
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "script").write_text("x")
    for name, open_mode in (("outside", 0o644), ("inside/script", 0o555)):
        (tmp_path / name).chmod(open_mode)
    assert tighten([tmp_path / "inside", tmp_path / "nowhere"]) == 1
    assert (mode(tmp_path / "outside"), mode(tmp_path / "inside" / "script")) == (0o644, 0o500)
