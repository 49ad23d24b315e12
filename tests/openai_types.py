"""Where OpenAI's client has a narrower type than the service's recorded answers, it is widened for our tests.

`error` of an eval's run, and of a sample, is `EvalAPIError` in the description and the client made from it. The service
sent null where there was none: in every recorded answer, and in every example of its own pages. The client checks
nothing unless it is told to, so real programs were written against null, and null is what we answer.
"""

from collections.abc import Iterator
from typing import Any

from openai.types import evals
from openai.types.evals import runs
from pydantic import BaseModel

RUNS = ("RunCreateResponse", "RunRetrieveResponse", "RunListResponse", "RunCancelResponse")
ITEMS = ("OutputItemRetrieveResponse", "OutputItemListResponse")


def accept_null_errors() -> None:
    """Lets `error` be None in the types of runs and samples."""
    for kind in _with_error():
        field = kind.model_fields["error"]
        field.annotation = field.annotation | None  # type: ignore[operator,assignment]  # a class
        kind.model_rebuild(force=True)
    for name in ITEMS:  # which have the samples' types in theirs
        getattr(runs, name).model_rebuild(force=True)


def _with_error() -> Iterator[type[BaseModel]]:
    for name in RUNS:
        yield getattr(evals, name)
    for name in ITEMS:
        sample: Any = getattr(runs, name).model_fields["sample"].annotation
        yield sample
