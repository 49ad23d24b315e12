"""What goes to a node through the bucket: bases by their bytes, and what a killed node has left."""

import os
import time
from pathlib import Path

import pytest
from tests.launch.ray.conftest import base_of

from tunesmith.launch.ray.order import Input
from tunesmith.launch.ray.transfer import fetch_folder, is_base, put_inputs
from tunesmith.models import seal
from tunesmith.store.storage.bucket import Bucket
from tunesmith.store.storage.folder_cache import ABANDONED_SECONDS
from tunesmith.system.atomic_write import sha256_of


def put(bucket: Bucket, base: Path, data_dir: Path) -> Input:
    return put_inputs({"job_id": "ftjob-1", "base_dir": str(base)}, data_dir, bucket, 1.0)["base_dir"]


def test_bases_that_differ_in_their_weights_alone_are_not_taken_for_each_other(bucket: Bucket, tmp_path: Path) -> None:
    bases = [base_of(tmp_path / name, weights) for name, weights in (("one", b"weights 1"), ("two", b"weights 2"))]
    inputs = [put(bucket, base, tmp_path / "data") for base in bases]
    for base, one in zip(bases, inputs, strict=True):
        fetched = fetch_folder(bucket, one, tmp_path / "node")
        assert (fetched / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert [is_base(base, inputs[0], tmp_path / "seals") for base in bases] == [True, False]


def test_a_base_whose_weights_were_exchanged_in_its_place_is_another_one(bucket: Bucket, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", b"weights 1")
    first = put(bucket, base, tmp_path / "data")
    assert is_base(base, first, tmp_path / "seals")
    (base / "model.safetensors").write_bytes(b"weights 2")
    assert put(bucket, base, tmp_path / "data").key != first.key
    assert not is_base(base, first, tmp_path / "seals")


def test_a_base_is_read_once_and_again_when_a_file_comes(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(seal, "sha256_of", noted)
    base = base_of(tmp_path / "base", b"weights")
    first = put(bucket, base, tmp_path / "data")
    assert put(bucket, base, tmp_path / "data") == first
    assert len(read) == 3
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert put(bucket, base, tmp_path / "data").key != first.key


def test_what_a_killed_node_has_fetched_of_a_base_is_removed_by_the_next(bucket: Bucket, tmp_path: Path) -> None:
    one = put(bucket, base_of(tmp_path / "base", b"weights"), tmp_path / "data")
    bases = tmp_path / "node" / "bases"
    left, coming = bases / ".aa.1-1.fetching", bases / ".bb.2-2.fetching"
    for folder in (left, coming):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        for path in (folder / "model.safetensors", folder):
            os.utime(path, (0, time.time() - ABANDONED_SECONDS - 60))
    os.utime(coming / "model.safetensors")
    assert fetch_folder(bucket, one, tmp_path / "node").name == one.digest
    assert sorted(path.name for path in bases.iterdir()) == sorted([coming.name, one.digest])
