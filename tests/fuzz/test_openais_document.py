"""The server keeps what OpenAI's description of the same areas says, asked by schemathesis: `make fuzz` asks more."""

import json
import os

import pytest
from api_world import World
from tests.fuzz.documents import official
from tests.fuzz.objects import Objects
from tests.servers import Server

EXAMPLES = int(os.environ.get("TUNESMITH_FUZZ_EXAMPLES", "4"))


def test_server_answers_as_openais_document_says(
    server: Server, world: World, objects: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.fuzz.fuzzing import Fuzzer  # which brings schemathesis, for seconds

    report = Fuzzer(server, official(), objects, world.file()).run(EXAMPLES)
    with capsys.disabled():
        print(f"\n{report.requests} requests by OpenAI's document: {json.dumps(report.statuses)}")
    assert not report.faults, "\n\n".join(f"{key}\n{text}" for key, text in report.faults.items())
    assert report.requests > 40 * EXAMPLES
    assert report.statuses[200] > report.requests / 5
