"""`check` says yes to a file exactly where a job on it gets as far as training: the same files through both."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.rules.file_rules import METHOD_KINDS
from tunesmith.cli import run
from tunesmith.errors import TunesmithError
from tunesmith.render.renderer import Renderer
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store, open_store
from tunesmith.train.core.examples import read_examples
from tunesmith.worker.validation import validate_job

Row: TypeAlias = dict[str, object]
MOST_TOKENS = 512  # of a row
SYSTEM: Row = {"role": "system", "content": "You answer in one word."}
ANSWER: Row = {"role": "assistant", "content": "Blue."}
CALL: Row = {"id": "c1", "type": "function", "function": {"name": "colour", "arguments": '{"of": "sky"}'}}
RESULT: Row = {"role": "tool", "tool_call_id": "c1", "content": "blue"}
TOOLS: list[Row] = [
    {
        "type": "function",
        "function": {
            "name": "colour",
            "parameters": {
                "type": "object",
                "properties": {"of": {"type": "string"}, "in": {"type": "string"}},
                "required": ["of"],
            },
        },
    }
]


def ask(number: int) -> Row:
    return {"role": "user", "content": f"What is colour number {number}?"}


def call(arguments: object) -> Row:
    function = {"name": "colour", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def pair(number: int, **more: object) -> Row:
    other = {"role": "assistant", "content": "A long story, which nobody asked for."}
    both = {"preferred_output": [ANSWER], "non_preferred_output": [other]}
    return {"input": {"messages": [ask(number)]}, **both, **more}


def without(row: Row, key: str) -> Row:
    return {name: value for name, value in row.items() if name != key}


def rows_of(n: int) -> Row:
    """Row number `n` of each file, by the file's name."""
    chat: Row = {"messages": [SYSTEM, ask(n), ANSWER]}
    turns = [ask(n), ANSWER]
    return {
        "chat": chat,
        "chat-without-system": {"messages": turns},
        "chat-of-several-turns": {"messages": [SYSTEM, ask(n), ANSWER, {"role": "user", "content": "Why?"}, ANSWER]},
        "chat-two-users": {"messages": [ask(n), ask(n), ANSWER]},
        "chat-ends-with-user": {"messages": [*turns, ask(n)]},
        "chat-starts-with-answer": {"messages": [ANSWER, *turns]},
        "chat-without-user": {"messages": [SYSTEM, ANSWER]},
        "chat-without-answer": {"messages": [SYSTEM, ask(n)]},
        "chat-id": {**chat, "id": n},
        "chat-id-and-no-answer": {"messages": [SYSTEM, ask(n)], "id": n},
        "chat-metadata-last-turn-user": {"messages": [*turns, ask(n)], "source": "forum"},
        "chat-weight-0": {"messages": [ask(n), {**ANSWER, "weight": 0}]},
        "chat-weight-half": {"messages": [ask(n), {**ANSWER, "weight": 0.5}]},
        "chat-name": {"messages": [{**ask(n), "name": "ann"}, ANSWER]},
        "chat-unknown-key": {"messages": [{**ask(n), "mood": "good"}, ANSWER]},
        "chat-capital-role": {"messages": [ask(n), {**ANSWER, "role": "Assistant"}]},
        "chat-no-role": {"messages": [ask(n), {"content": "Blue."}]},
        "chat-null-content": {"messages": [ask(n), {"role": "assistant", "content": None}]},
        "chat-empty-content": {"messages": [ask(n), {"role": "assistant", "content": ""}]},
        "chat-blank-answer": {"messages": [ask(n), {"role": "assistant", "content": " \n"}]},
        "chat-refusal": {"messages": [ask(n), {"role": "assistant", "content": None, "refusal": "No."}]},
        "chat-parts": {"messages": [ask(n), {"role": "assistant", "content": [{"type": "text", "text": "Blue."}]}]},
        "chat-image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER]},
        "chat-empty": {"messages": []},
        "chat-null": {"messages": None},
        "chat-too-long": {"messages": [{"role": "user", "content": f"{n} word" * 400}, ANSWER]},
        "chat-long-answer": {"messages": [ask(n), {"role": "assistant", "content": "word " * 900}]},
        "tools": {"messages": [ask(n), call('{"of": "sky"}'), RESULT, ANSWER], "tools": TOOLS},
        "tools-null-optional": {
            "messages": [ask(n), call('{"of": "sky", "in": null}'), RESULT, ANSWER],
            "tools": TOOLS,
        },
        "tools-null-required": {"messages": [ask(n), call('{"of": null}'), RESULT, ANSWER], "tools": TOOLS},
        "tools-object-arguments": {"messages": [ask(n), call({"of": "sky"}), RESULT, ANSWER], "tools": TOOLS},
        "tools-broken-arguments": {"messages": [ask(n), call("{"), RESULT, ANSWER], "tools": TOOLS},
        "tools-undeclared": {"messages": [ask(n), call('{"of": "sky"}'), RESULT, ANSWER]},
        "tools-as-text": {"messages": turns, "tools": json.dumps(TOOLS)},
        "tools-other-call": {"messages": [ask(n), call('{"of": "sky"}'), RESULT, ANSWER], "tools": [_renamed()]},
        "tools-unanswered": {"messages": [ask(n), call('{"of": "sky"}')], "tools": TOOLS},
        "tools-orphan": {"messages": [ask(n), RESULT, ANSWER], "tools": TOOLS},
        "functions": {"messages": turns, "functions": [TOOLS[0]["function"]]},
        "completion": {"prompt": f"Colour {n}:", "completion": " blue"},
        "completion-empty-prompt": {"prompt": "", "completion": f"blue {n}"},
        "completion-empty": {"prompt": f"Colour {n}:", "completion": ""},
        "completion-missing": {"prompt": f"Colour {n}:"},
        "completion-id": {"prompt": f"Colour {n}:", "completion": " blue", "id": n},
        "completion-list": {"prompt": [f"Colour {n}:"], "completion": " blue"},
        "preference": pair(n),
        "preference-tools": pair(n, input={"messages": [ask(n)], "tools": TOOLS}),
        "preference-old-keys": {
            "input": {"messages": [ask(n)]},
            "preferred_completion": [ANSWER],
            "non_preferred_completion": [{**ANSWER, "content": "Red."}],
        },
        "preference-messages-for-input": {**without(pair(n), "input"), "messages": [ask(n)]},
        "preference-messages-beside": pair(n, messages=turns),
        "preference-same": pair(n, non_preferred_output=[ANSWER]),
        "preference-text": pair(n, preferred_output="Blue."),
        "preference-two": pair(n, preferred_output=[ANSWER, ANSWER]),
        "preference-ends-with-answer": pair(n, input={"messages": turns}),
        "preference-missing": without(pair(n), "non_preferred_output"),
        "preference-id": pair(n, id=n),
        "preference-too-long": pair(n, input={"messages": [{"role": "user", "content": "word " * 900}]}),
        "reinforcement": {"messages": [ask(n)], "answer": "blue"},
        "reinforcement-only-messages": {"messages": [ask(n)]},
        "reinforcement-tools": {"messages": [ask(n)], "tools": TOOLS, "answer": 1},
        "alpaca": {"instruction": f"Name colour {n}", "input": "", "output": "blue"},
        "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Blue."}]},
        "trl": {"prompt": f"Colour {n}:", "chosen": "blue", "rejected": "red"},
        "batch-request": {"custom_id": f"{n}", "method": "POST", "url": "/v1/chat/completions", "body": chat},
        "input-output": {"input": f"Colour {n}", "output": "blue"},
        "text": {"text": f"Colour {n} is blue"},
        "object-of-nothing": {},
        "number": n,
        "list": turns,
        "string": "a row",
        "null": None,
    }


def _renamed() -> Row:
    return {"type": "function", "function": {"name": "shade"}}


NAMES = tuple(rows_of(0))


def lines(name: str, count: int = 10) -> bytes:
    return b"".join(json.dumps(rows_of(n)[name]).encode() + b"\n" for n in range(count))


# Files whose fault is not that of each row.
FILES = {
    "file-empty": b"",
    "file-blank": b"\n\n",
    "file-nine": lines("chat", 9),
    "file-nine-and-blank": lines("chat", 9) + b"\n \n",
    "file-ten-and-blank": b"\n" + lines("chat"),
    "file-nine-and-broken": lines("chat", 9) + b'{"messages": [\n',
    "file-mark": b"\xef\xbb\xbf" + lines("chat"),
    "file-mark-within": lines("chat") + b"\xef\xbb\xbf" + lines("chat", 1),
    "file-crlf": lines("chat").replace(b"\n", b"\r\n"),
    "file-no-last-end": lines("chat").rstrip(b"\n"),
    "file-utf16": lines("chat").decode().encode("utf-16"),
    "file-latin1": lines("chat").replace(b"Blue", b"Bl\xfce"),
    "file-array": json.dumps([rows_of(n)["chat"] for n in range(10)]).encode(),
    "file-pretty": json.dumps(rows_of(1)["chat"], indent=2).encode(),
    "file-commas": lines("chat").replace(b"\n", b",\n"),
    "file-inner-commas": lines("chat").replace(b"}\n", b",}\n"),
    "file-quotes": lines("chat").replace(b'"', b"'"),
    "file-csv": b"prompt,completion\nsky,blue\n" * 10,
    "file-gzip": b"\x1f\x8b\x08\x00" + lines("chat"),
    "file-twice": lines("chat").replace(b'{"messages"', b'{"messages": [], "messages"'),
    "file-surrogate": lines("chat").replace(b"Blue", b"\\ud800"),
    "file-duplicates": lines("chat", 1) * 12,
    "file-chat-and-completion": lines("chat", 6) + lines("completion", 6),
    "file-completion-and-chat": lines("completion", 6) + lines("chat", 6),
    "file-preference-and-chat": lines("preference", 10) + lines("chat", 1),
    "file-chat-and-preference": lines("chat", 10) + lines("preference", 1),
    "file-first-without-answer": lines("chat-id-and-no-answer", 1) + lines("chat", 10),
    "file-first-with-id": lines("chat-id", 1) + lines("chat", 10),
    "file-one-without-answer": lines("chat", 10) + lines("chat-id-and-no-answer", 1),
    "file-one-too-long": lines("chat", 10) + lines("chat-too-long", 1),
}


class House(NamedTuple):
    """A server without its processes, and what the trainer reads rows with."""

    client: TestClient
    store: Store
    settings: Settings
    renderer: Renderer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, base_dir: Path, renderer: Renderer) -> Iterator[House]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("verdict"), max_example_tokens=MOST_TOKENS)
    store = open_store(settings)
    key = store.keys.create("tests")[0]
    app = create_app(settings, store, Pool(settings))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield House(client, store, settings, renderer)
    store.close()


def job_accepts(house: House, training: bytes, method: str, validation: bytes | None = None) -> bool:
    """Whether a job on the file comes to be trained: created, validated, and read by the trainer."""
    body: Row = {"model": "gpt-4o-mini", "method": {"type": method}}
    for param, content in (("training_file", training), ("validation_file", validation)):
        if content is not None:
            sent = {"file": ("rows.jsonl", content)}
            answer = house.client.post("/v1/files", data={"purpose": "fine-tune"}, files=sent)
            if answer.status_code != 200:
                return False
            body[param] = answer.json()["id"]
    answer = house.client.post("/v1/fine_tuning/jobs", json=body)
    if answer.status_code != 200:
        return False
    job, lease = house.store.queue.claim("tests", [JobStatus.VALIDATING], 60) or pytest.fail("no job to check")
    try:
        validate_job(house.store, house.settings, job, lease)
    except TunesmithError as error:
        house.store.queue.fail(lease, code=error.code or "", message=error.message, param=error.param)
        return False
    house.store.queue.release(lease)
    path = house.store.blobs.path(job.training_file)
    assert len(read_examples(path, house.renderer, "dpo" if method == "dpo" else "supervised", MOST_TOKENS))
    return True


def check_accepts(house: House, path: Path, method: str | None) -> bool:
    options = CheckOptions(renderer=house.renderer, max_tokens=MOST_TOKENS, method=method)
    return check_file(path, options).ok


def command_accepts(path: Path, capfd: pytest.CaptureFixture[str], *options: str) -> bool:
    """The verdict of `tunesmith check`: its exit code, with which what it prints has to agree."""
    code = int(run(["check", str(path), *options]))
    said = capfd.readouterr().out
    assert ("✓ ready to train" in said, "✗" in said) == (code == 0, code == 1), said
    return code == 0


@pytest.fixture
def contents(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = request.param
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TUNESMITH_MAX_EXAMPLE_TOKENS", str(MOST_TOKENS))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(FILES[name] if name in FILES else lines(name))
    return path


@pytest.mark.drawn(25)
@pytest.mark.parametrize("contents", [*NAMES, *FILES], indirect=True)
def test_check_and_job_have_one_verdict_by_method(house: House, contents: Path) -> None:
    taken = {method: job_accepts(house, contents.read_bytes(), method) for method in METHOD_KINDS}
    assert {method: check_accepts(house, contents, method) for method in METHOD_KINDS} == taken
    assert check_accepts(house, contents, None) == any(taken.values())


@pytest.mark.drawn(2)  # five commands each
@pytest.mark.parametrize(
    "contents",
    ["chat", "preference", "chat-id-and-no-answer", "reinforcement", "preference-messages-for-input", "file-nine"],
    indirect=True,
)
def test_the_command_says_what_the_check_says(house: House, contents: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command_accepts(contents, capfd) == check_accepts(house, contents, None)
    for method in METHOD_KINDS:
        assert command_accepts(contents, capfd, "--method", method) == check_accepts(house, contents, method)


@pytest.mark.drawn(3)
@pytest.mark.parametrize("contents", ["chat"], indirect=True)
@pytest.mark.parametrize("name", ["chat", "preference", "chat-id", "completion", "file-empty", "file-pretty"])
def test_a_validation_file_stops_both_or_none(
    house: House, contents: Path, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    validation = tmp_path / "held-out.jsonl"
    validation.write_bytes(FILES[name] if name in FILES else lines(name, 1))
    taken = job_accepts(house, contents.read_bytes(), "supervised", validation.read_bytes())
    assert command_accepts(contents, capfd, "--method", "supervised", "--validation", str(validation)) == taken
