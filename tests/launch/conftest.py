"""The scripted trainer of the worker's tests, started here without a worker."""

from tests.train.conftest import chat_file, make_spec, tiny_base
from tests.worker.conftest import script

__all__ = ["chat_file", "make_spec", "script", "tiny_base"]
