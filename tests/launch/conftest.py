"""The scripted trainer of the worker's tests, started here without a worker."""

from tests.worker.conftest import script

__all__ = ["script"]
