"""Stores whose databases the migrations have made, here and now."""

from collections.abc import Iterator

import pytest

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store


@pytest.fixture
def store(store_settings: Settings) -> Iterator[Store]:
    """Instead of a copy of a database that was migrated before (`tests.databases`)."""
    opened = open_store(store_settings)
    yield opened
    opened.close()
