"""Sizes that the wire documents are settings: other ones hold here."""

import pytest
from starlette.testclient import TestClient
from tests.api.conftest import Ask, Refused, Upload

from tunesmith.settings import Settings

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings(**{**settings.model_dump(), "max_suffix_chars": 100, "max_metadata_pairs": 2})


@pytest.fixture
def create(client: TestClient, upload: Upload) -> Ask:
    body = {"model": "gpt-3.5-turbo", "training_file": upload()["id"]}
    return lambda **fields: client.post(JOBS, json={**body, **fields})


def test_a_suffix_may_be_as_long_as_the_setting_says(create: Ask, refused: Refused) -> None:
    assert create(suffix="s" * 100).json()["user_provided_suffix"] == "s" * 100
    error = refused(create(suffix="s" * 101))
    assert (error["param"], error["message"]) == (
        "suffix",
        "the suffix has 101 characters; it must have 1 to 100 - 'suffix'",
    )


def test_metadata_has_as_many_pairs_as_the_setting_says(create: Ask, refused: Refused) -> None:
    assert create(metadata={"a": "1", "b": "2"}).json()["metadata"] == {"a": "1", "b": "2"}
    error = refused(create(metadata={"a": "1", "b": "2", "c": "3"}))
    assert (error["param"], error["message"]) == ("metadata", "3 pairs are given; at most 2 are kept - 'metadata'")
