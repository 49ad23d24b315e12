"""The application as the tests of the API have it, with keys of every role."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import app, client, key, refused, rows, settings, store, upload

from tunesmith.store import Role, Store

__all__ = ["app", "client", "key", "refused", "rows", "settings", "store", "upload"]

As = Callable[[Role | None], TestClient]


@pytest.fixture
def calling_as(app: FastAPI, store: Store, client: TestClient) -> As:
    """`calling_as("read-only")`: a client with a new key of that role; None: without a key."""

    def connect(role: Role | None) -> TestClient:
        if role is None:
            return TestClient(app)
        return TestClient(app, headers={"Authorization": f"Bearer {store.keys.create(role, role=role)[0]}"})

    return connect
