"""schemathesis against a real server: requests that fit a description and requests that do not, and what is checked.

In two of three requests real objects and a model that is there stand in place of generated names, or else nearly every
answer would be a 404. With the model goes a bound, so that no request generates for minutes: at most two choices of two
tokens. Nothing trains: the server runs without a worker.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.fuzz.objects import Objects
from tests.servers import Server

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BASE = "smollm2-135m-instruct"
BOUNDS = {"n": 2, "best_of": 2, "max_tokens": 2, "max_completion_tokens": 2}
GENERATING = "/completions"  # the end of paths that make a model write
USING_UP = ("/cancel", "/complete", "/archive")  # likewise of those after which an object is of no more use
AnyOperation: TypeAlias = APIOperation[Any, Any, Any, Any]
AnyCase: TypeAlias = Case[AnyOperation]


@dataclass(slots=True)
class Report:
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)  # operation and kind -> the first one of it, with its request


class Fuzzer:
    def __init__(self, server: Server, document: dict[str, Any], objects: Objects, training_file: str) -> None:
        self._schema = schemathesis.openapi.from_dict(document)
        self._schema.config.update(base_url=server.base_url.removesuffix("/v1"))
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {server.key}"
        self._objects = objects
        self._training_file = training_file
        self.report = Report()

    def run(self, examples: int) -> Report:
        """`examples`: for each operation, of requests that fit and again of requests that do not."""
        for found in self._schema.get_all_operations():
            assert isinstance(found, Ok), found
            for mode in GenerationMode:
                self._explore(found.ok(), mode, examples)
        return self.report

    def _explore(self, operation: AnyOperation, mode: GenerationMode, examples: int) -> None:
        calm = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        cases = operation.as_strategy(generation_mode=mode)
        test = given(cases, st.integers(0, 2))(lambda case, real: self._ask(case, real))
        with suppress(Unsatisfiable):  # without parameters there is no request that does not fit
            calm(seed(1)(test))()

    def _ask(self, case: AnyCase, real: int) -> None:
        if real:
            self._objects.fill(case)
            self._make_real(case)
        response = case.call(session=self._session, timeout=60)
        self.report.requests += 1
        self.report.statuses[response.status_code] += 1
        if response.status_code == 200 and (case.method == "DELETE" or case.operation.path.endswith(USING_UP)):
            self._objects.renew(case)
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            for fault in group.exceptions:
                key = f"{case.operation.label}: {type(fault).__name__}"
                self.report.faults.setdefault(key, f"{fault}\n{case.as_curl_command()[:2000]}\n{response.text[:500]}")

    def _make_real(self, case: AnyCase) -> None:
        body = case.body
        if not isinstance(body, dict):
            return
        if case.operation.path.endswith(GENERATING) and case.method == "POST":
            body["model"] = BASE
            body.update({name: most for name, most in BOUNDS.items() if isinstance(body.get(name), int)})
            if "max_tokens" not in body and "max_completion_tokens" not in body:
                body["max_tokens"] = BOUNDS["max_tokens"]
        if "training_file" in body:
            body.update(model=BASE, training_file=self._training_file)
