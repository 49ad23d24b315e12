"""A file is as it was before or holds all of the new data, also where several processes write it or one crashes."""

import os
import stat
import threading
from pathlib import Path

import pytest

from tunesmith.system.atomic_write import rename_durably, write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_and_nothing_else_is_left(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"before")
    write_atomically(path, b"after", durable=durable)
    assert path.read_bytes() == b"after"
    assert [*tmp_path.iterdir()] == [path]


def test_what_a_crash_left_behind_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    (tmp_path / ".plan.json.partial").write_bytes(b"half of a longer te")
    write_atomically(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert [*tmp_path.iterdir()] == [path]


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(OSError, match="taken"):  # a directory cannot be replaced by a file
        write_atomically(target, b"new")
    assert [*tmp_path.iterdir()] == [target]


def test_a_private_file_is_the_owners_whatever_a_crash_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "key"
    leftover = tmp_path / ".key.partial"
    leftover.touch()
    leftover.chmod(0o666)
    write_atomically(path, b"secret", private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_not_private_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "plan.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == 0o640


def test_writers_of_one_cache_file_do_not_mix(tmp_path: Path) -> None:
    path, sizes = tmp_path / "cache.json", (100_000, 250_000, 400_000)
    failed: list[BaseException] = []

    def write(size: int) -> None:
        try:
            for _ in range(30):
                write_atomically(path, b"x" * size, durable=False)
                assert path.stat().st_size in sizes
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [*tmp_path.iterdir()] == [path]


def test_a_directory_of_files_appears_under_its_name(tmp_path: Path) -> None:
    source = tmp_path / ".step.partial"
    source.mkdir()
    (source / "state.json").write_text("{}")
    rename_durably(source, tmp_path / "step")
    assert [path.name for path in tmp_path.iterdir()] == ["step"]
    assert (tmp_path / "step" / "state.json").read_text() == "{}"


def test_a_durable_write_waits_for_bytes_and_then_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    synced: list[tuple[bool, bool]] = []  # was it a directory, was the name there already

    def note(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(path, b"cache", durable=False)
    assert synced == []
    path.unlink()
    write_atomically(path, b"kept")
    assert synced == [(False, False), (True, True)]
