"""The fixtures of the API's tests: the real application over a real store."""

from tests.api.conftest import app, client, key, rows, settings, store

__all__ = ["app", "client", "key", "rows", "settings", "store"]
