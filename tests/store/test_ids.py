"""Ids and names."""

import re

from tunesmith.store import ids


def test_ids_have_openais_shapes() -> None:
    assert re.fullmatch(r"file-[0-9A-Za-z]{24}", ids.new_file_id())
    assert re.fullmatch(r"ftjob-[0-9A-Za-z]{24}", ids.new_job_id())
    assert re.fullmatch(r"ftevent-[0-9A-Za-z]{24}", ids.new_event_id())
    assert re.fullmatch(r"ftckpt_[0-9A-Za-z]{24}", ids.new_checkpoint_id())


def test_ids_do_not_repeat() -> None:
    assert len({ids.new_job_id() for _ in range(10_000)}) == 10_000


def test_a_model_without_suffix_has_an_empty_field() -> None:
    assert re.fullmatch(r"ft:base:acme::[0-9A-Za-z]{8}", ids.tuned_model_name("base", "acme", None))


def test_a_suffix_becomes_a_slug() -> None:
    name = ids.tuned_model_name("base", "acme", "My Bot: v1.2/β!")
    assert re.fullmatch(r"ft:base:acme:my-bot-v1.2-β:[0-9A-Za-z]{8}", name)


def test_a_checkpoint_has_another_tail_and_its_step() -> None:
    planned = "ft:base:acme:bot:AAAAAAAA"
    name = ids.checkpoint_model_name(planned, 90)
    assert re.fullmatch(r"ft:base:acme:bot:[0-9A-Za-z]{8}:ckpt-step-90", name)
    assert "AAAAAAAA" not in name
