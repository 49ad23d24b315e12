"""`chat`: the training file's system message, a low temperature, and models that do not exist."""

import io
import json

import pytest
from tests.cli.conftest import Tunesmith
from tests.cli.scripted_server import ScriptedServer

ASK, MODEL = "POST /v1/chat/completions", "GET /v1/models/ft:base::x"
TUNED = {"id": "ft:base::x", "object": "model", "created": 5, "owned_by": "me"}
NO_MODEL = {"error": {"message": "The model 'ft:base::y' does not exist", "param": "model", "code": "model_not_found"}}


def chunk(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()


@pytest.fixture(autouse=True)
def _tuned_model(script: ScriptedServer) -> None:
    script.answer(MODEL, {**TUNED, "tunesmith": {"system_message": "Be brief.\nAlways."}})
    script.answer(ASK, chunk("Hello") + b"data: [DONE]\n\n")


def asked(script: ScriptedServer) -> dict[str, object]:
    found: dict[str, object] = json.loads(script.bodies[script.asked.index(ASK)])
    return found


def test_system_message_of_the_training_file_is_sent_and_told(run: Tunesmith, script: ScriptedServer) -> None:
    ran = run("chat", "ft:base::x", "Hi")
    assert ran.out == "Hello\n"
    assert ran.err == (
        'Using the system message of the training file: "Be brief. Always."'
        " (--system to change, --no-system for none)\n"
    )
    assert asked(script)["messages"] == [
        {"role": "system", "content": "Be brief.\nAlways."},
        {"role": "user", "content": "Hi"},
    ]
    assert asked(script)["temperature"] == 0.2


@pytest.mark.parametrize(
    ("options", "system"),
    [(["--no-system"], []), (["--system", "Be long."], ["Be long."]), (["--system", ""], [])],
    ids=["none", "another", "empty"],
)
def test_system_message_can_be_changed_or_left_out(
    run: Tunesmith, script: ScriptedServer, options: list[str], system: list[str]
) -> None:
    ran = run("chat", "ft:base::x", "Hi", *options, "--temperature", 1)
    assert ran.err == ""
    messages = asked(script)["messages"]
    assert isinstance(messages, list)
    assert [one["content"] for one in messages] == [*system, "Hi"]
    assert asked(script)["temperature"] == 1


def test_system_and_no_system_contradict_each_other(run: Tunesmith, script: ScriptedServer) -> None:
    ran = run("chat", "ft:base::x", "Hi", "--system", "x", "--no-system")
    assert ran.code == 2
    assert "contradict each other" in ran.err
    assert script.asked == []


def test_model_without_a_system_message_says_nothing(run: Tunesmith, script: ScriptedServer) -> None:
    script.answers[MODEL].clear()
    script.answer(MODEL, TUNED)
    assert run("chat", "ft:base::x", "Hi").err == ""
    assert asked(script)["messages"] == [{"role": "user", "content": "Hi"}]


def test_server_that_tells_nothing_of_a_model_is_asked_all_the_same(run: Tunesmith, script: ScriptedServer) -> None:
    ran = run("chat", "some/model", "Hi")
    assert (ran.code, ran.out, ran.err) == (0, "Hello\n", "")
    assert f"GET /v1/models/{'some%2Fmodel'}" in script.asked


@pytest.mark.parametrize("options", [[], ["--no-system"]], ids=["told_by_model", "told_by_chat"])
def test_unknown_model_names_near_ones_and_the_list(run: Tunesmith, script: ScriptedServer, options: list[str]) -> None:
    script.answers[ASK].clear()
    script.answer(ASK, NO_MODEL, status=404)
    script.answer("GET /v1/models/ft:base::y", NO_MODEL, status=404)
    script.answer("GET /v1/models", {"data": [TUNED, {**TUNED, "id": "gpt-4o"}]})
    ran = run("chat", "ft:base::y", "Hi", *options)
    assert ran.code == 1
    assert ran.err == (
        "error: No model is called ft:base::y. Did you mean ft:base::x? `tunesmith models list` shows the models.\n"
    )


def test_of_an_unknown_model_and_an_empty_stdin_the_model_is_named_first(
    run: Tunesmith, script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    script.answer("GET /v1/models/gpt-5", NO_MODEL, status=404)
    script.answer("GET /v1/models", {"data": [{**TUNED, "id": "gpt-4o"}]})
    said = "error: No model is called gpt-5. Did you mean gpt-4o? `tunesmith models list` shows the models.\n"
    assert run("chat", "gpt-5", "--no-system").err == said
    script.answer("GET /v1/models/gpt-4o", {**TUNED, "id": "gpt-4o"})
    empty = run("chat", "gpt-4o", "--no-system")
    assert (empty.code, empty.err.startswith("error: stdin is empty. Give a message:")) == (1, True)


def test_answer_in_a_pipe_is_what_the_model_wrote(run: Tunesmith, script: ScriptedServer) -> None:
    script.answers[ASK].clear()
    script.answer(ASK, chunk("\x1b[31mred") + chunk("\x07"))
    assert run("chat", "ft:base::x", "Hi").out == "\x1b[31mred\x07\n"
