"""A real file system of a few megabytes, which really fills."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SUDO = [] if os.getuid() == 0 else ["sudo", "-n"]
SIZE = 6 * 1024**2


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """`folder` is where it is mounted."""

    folder: Path

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def fill(self, left: int = 0) -> None:
        """Takes all room but `left` bytes."""
        with (self.folder / "ballast").open("ab", buffering=0) as file:
            while (wanted := min(self.free - left, 1 << 20)) > 0:
                file.write(bytes(wanted))

    def allow_writing(self, allowed: bool) -> None:
        """Mounts it anew, for reading only unless `allowed`."""
        subprocess.run([*SUDO, "mount", "-o", f"remount,{'rw' if allowed else 'ro'}", self.folder], check=True)

    def clear(self) -> None:
        """Gives back what `fill` took."""
        (self.folder / "ballast").unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A tmpfs of `SIZE` bytes; skipped where nobody may mount one."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    options = f"size={SIZE},mode=700,uid={os.getuid()},gid={os.getgid()}"
    mounted = subprocess.run(
        [*SUDO, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield SmallDisk(folder)
    subprocess.run([*SUDO, "umount", "--lazy", folder], check=True)
