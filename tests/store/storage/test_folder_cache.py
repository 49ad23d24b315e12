"""Models that a machine has fetched: room, several processes, and what a killed one left."""

import os
import shutil
import time
from pathlib import Path

import pytest
from tests.store.storage.folders import WEIGHTS, contents, machine, write

from tunesmith.store.storage.bucket import Bucket, StoredObject
from tunesmith.store.storage.folder_cache import ABANDONED_SECONDS, name_folder
from tunesmith.store.storage.model_folders import BucketFolders


def test_fetched_models_leave_the_cache_when_there_is_no_room_and_trained_ones_stay(
    bucket: Bucket, tmp_path: Path
) -> None:
    ids = ("a", "b", "c")
    trained = [write(tmp_path / "one" / "jobs" / name / "output" / "adapter") for name in ids]
    for folder in trained:
        BucketFolders(tmp_path / "one", bucket, 1).publish(folder)
    own = write(tmp_path / "two" / "jobs" / "own" / "output" / "adapter")
    small = BucketFolders(tmp_path / "two", bucket, 2.5 * len(WEIGHTS) / 2**30)
    fetched = [tmp_path / "two" / "jobs" / name / "output" / "adapter" for name in ids]
    for folder in fetched[:2]:
        small.fetch(folder)
    hour_ago = time.time() - 3600
    for folder in (own, *fetched[:2]):
        os.utime(folder / "manifest.json", (hour_ago, hour_ago))
    small.fetch(fetched[0])
    small.fetch(fetched[2])
    assert [folder.exists() for folder in (own, *fetched)] == [True, True, False, True]
    small.fetch(fetched[1])  # the others were used a moment ago: more than the limit, but nothing is taken away
    assert [contents(folder) for folder in fetched] == [contents(folder) for folder in trained]


def test_of_two_processes_that_fetch_a_folder_the_slower_leaves_that_of_the_faster(tmp_path: Path) -> None:
    faster, slower = (write(tmp_path / name) for name in (".a.1.fetching", ".a.2.fetching"))
    (slower / "base" / "config.json").write_text("[]")
    folder = tmp_path / "a"
    name_folder(faster, folder, "manifest.json")
    before = folder.stat().st_ino
    name_folder(slower, folder, "manifest.json")
    assert folder.stat().st_ino == before
    (folder / "manifest.json").unlink()  # as a crash leaves it
    name_folder(slower, folder, "manifest.json")
    assert (folder / "base" / "config.json").read_text() == "[]"


def test_a_model_that_is_used_or_removed_while_room_is_made_is_left_alone(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ("a", "b", "c")
    for name in ids:
        BucketFolders(tmp_path / "one", bucket, 1).publish(
            write(tmp_path / "one" / "jobs" / name / "output" / "adapter")
        )
    small = BucketFolders(tmp_path / "two", bucket, 0.5 * len(WEIGHTS) / 2**30)
    first, second, third = (tmp_path / "two" / "jobs" / name / "output" / "adapter" for name in ids)
    hour_ago = time.time() - 3600
    for folder in (first, second):
        small.fetch(folder)
        os.utime(folder / "manifest.json", (hour_ago, hour_ago))
        hour_ago += 1
    find = bucket.find

    def find_and_then(key: str) -> StoredObject | None:
        found = find(key)
        if "/a/" in key:
            shutil.rmtree(first)  # another process makes room too
        else:
            small.fetch(second)  # somebody asks for it
        return found

    monkeypatch.setattr(bucket, "find", find_and_then)
    small.fetch(third)
    assert [folder.exists() for folder in (first, second, third)] == [False, True, True]


def test_what_a_killed_process_has_fetched_in_part_goes_when_another_model_comes(
    bucket: Bucket, tmp_path: Path
) -> None:
    one, folder = machine(bucket, tmp_path, "one")
    one.publish(write(folder))
    two, there = machine(bucket, tmp_path, "two")
    left, coming = (there.with_name(f".adapter.{number}-1.fetching") for number in (7, 8))
    for partial in (left, coming):
        write(partial)
        for path in (partial, *partial.rglob("*")):
            os.utime(path, (0, time.time() - ABANDONED_SECONDS - 60))
    os.utime(coming / "adapter_model.safetensors")  # a large file that still comes
    two.fetch(there)
    assert sorted(path.name for path in there.parent.iterdir()) == [".adapter.8-1.fetching", "adapter"]
