"""The disk of these tests loses what a real one may lose, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.power_cut.disk import KINDS, Disk, Kind

WRITE = """
import os, sys
from pathlib import Path
root = Path(sys.argv[1])

def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

def write(name, text, synced):
    (root / name).write_text(text)
    if synced:
        sync(root / name)

write("safe", "safe", True)
write("later", "old", True)
(root / "folder").mkdir()
write("folder/inside", "inside", True)
sync(root / "folder")
write("moved", "moved", True)
sync(root)
write("later", "new text", False)
write("unsynced", "gone", False)
write("nameless", "content", True)
os.rename(root / "moved", root / "renamed")
"""


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    made = Disk.new(tmp_path)
    subprocess.run([sys.executable, "-c", WRITE, made.root], env={**os.environ, **made.environment()}, check=True)
    return made


def found(disk: Disk) -> dict[str, str]:
    return {str(path.relative_to(disk.root)): path.read_text() for path in disk.root.rglob("*") if path.is_file()}


def test_ordered_disk_has_all_names_and_only_synced_content(disk: Disk) -> None:
    disk.cut("ordered", 0)
    assert found(disk) == {
        "safe": "safe",
        "later": "old",
        "folder/inside": "inside",
        "renamed": "moved",
        "unsynced": "",
        "nameless": "content",
    }


def test_strict_disk_has_only_synced_names(disk: Disk) -> None:
    disk.cut("strict", 0)
    assert found(disk) == {"safe": "safe", "later": "old", "folder/inside": "inside", "moved": "moved"}


def test_mixed_disk_has_synced_or_later_content_by_seed(disk: Disk) -> None:
    disk.cut("mixed", 1)
    left = found(disk)
    assert left["safe"] == "safe"
    assert left["later"] in ("old", "new text", "new", "old\0\0\0\0\0")


@pytest.mark.parametrize("kind", KINDS)
def test_second_cut_takes_nothing_that_survived_the_first(disk: Disk, kind: Kind) -> None:
    disk.cut(kind, 3)
    before = found(disk)
    assert disk.cut("strict", 4) == []
    assert found(disk) == before
