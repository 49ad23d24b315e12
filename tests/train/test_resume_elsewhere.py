"""A run that goes on on another machine, with its progress from object storage."""

from collections.abc import Callable
from pathlib import Path

from tests.train.test_run import StopAfter, final_adapter, of_type, stopped, train

from tunesmith.store.storage.bucket import Bucket
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.train.protocol.spec import TrainSpec


def test_a_run_resumes_on_another_machine_to_the_same_bits(
    make_spec: Callable[..., TrainSpec], bucket: Bucket, tmp_path: Path
) -> None:
    whole = make_spec(output_dir=tmp_path / "whole")
    expected = train(whole)
    one, two = (tmp_path / name / "jobs" / "ftjob-x" / "output" for name in ("one", "two"))
    stopped(make_spec(output_dir=one), StopAfter(5))
    BucketFolders(tmp_path / "one", bucket, 1).publish_progress(one)
    BucketFolders(tmp_path / "two", bucket, 1).fetch_progress(two)
    there = make_spec(output_dir=two, attempt=2)
    events = train(there)
    assert of_type(events, "started")[0]["resumed_from_step"] == 5
    assert final_adapter(there) == final_adapter(whole)
    losses = [[(e["step"], e["train_loss"]) for e in of_type(found, "step")] for found in (events, expected)]
    assert losses[0] == losses[1]  # those before the stop came along in the journal
