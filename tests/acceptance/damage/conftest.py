"""The tiny base and specs of the trainer's tests."""

from tests.train.conftest import chat_file as chat_file
from tests.train.conftest import make_spec as make_spec
from tests.train.conftest import preference_file as preference_file
from tests.train.conftest import tiny_base as tiny_base
