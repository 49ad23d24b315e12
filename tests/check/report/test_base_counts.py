"""Faults that only a base can tell: found without reading every row again, and the same as by reading all."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.render.native.families import family_base

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.base_counts import BaseLimits, RowLengths, count_base
from tunesmith.check.scan.file_scan import scan_file
from tunesmith.check.scan.row_forms import COMPLETION, MAX_FORMS, chat_form, form_of, specimen
from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.chat_template import ChatTemplate
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.findings import FindingLog
from tunesmith.rows.row import Row, build_row

TOOL: JsonObject = {
    "type": "function",
    "function": {"name": "time", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
}
# Refuses a system message anywhere but in front, as several bases' templates do.
STRICT = (
    "{% for message in messages %}"
    "{% if message.role == 'system' and not loop.first %}{{ raise_exception('System first.') }}{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
)
# Renders earlier answers differently from the last one, so that only the last can be learned.
UNSTABLE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and not loop.last %}(earlier) {% endif %}{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
)


def text(choice: random.Random) -> str:
    words = ["so", "Kälte", "今天", "\U0001f600", "internationalisation", "a\tb", '{"x": 1}']
    return " ".join(choice.choices(words, k=choice.randint(1, 25)))


def chat_row(choice: random.Random) -> JsonObject:
    messages: list[JsonObject] = []
    if choice.random() < 0.5:
        messages.append({"role": choice.choice(["system", "developer"]), "content": text(choice)})
    for _ in range(choice.randint(1, 3)):
        messages += [{"role": "user", "content": text(choice)}, {"role": "assistant", "content": text(choice)}]
    row: JsonObject = {}
    match choice.randint(0, 6):
        case 0:
            messages[-1]["weight"] = 1
            messages[-1]["name"] = "bot"
        case 1:
            row["tools"] = [TOOL]
            call: JsonObject = {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{ }"}}
            messages[-1:] = [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": text(choice)},
                {"role": "assistant", "content": text(choice)},
            ]
        case 2:
            messages.insert(-1, {"role": "system", "content": "Be brief."})
        case 3:
            messages[-1]["content"] = [{"type": "text", "text": text(choice)}]
    return {"messages": [*messages], **row}


def preference_row(choice: random.Random) -> JsonObject:
    source: JsonObject = {"messages": [{"role": "user", "content": text(choice)}]}
    if choice.random() < 0.3:
        source["tools"] = [TOOL]
    outputs: list[list[JsonValue]] = [[{"role": "assistant", "content": f"{end} {text(choice)}"}] for end in "ab"]
    return {"input": source, "preferred_output": outputs[0], "non_preferred_output": outputs[1]}


def completion_row(choice: random.Random) -> JsonObject:
    return {"prompt": text(choice), "completion": text(choice)}


MAKERS = [chat_row, preference_row, completion_row]


@pytest.fixture(scope="session")
def strict(base_dir: Path) -> Renderer:
    return with_template(base_dir, STRICT)


@pytest.fixture(scope="session")
def unstable(base_dir: Path) -> Renderer:
    return with_template(base_dir, UNSTABLE)


def with_template(base_dir: Path, template: str) -> Renderer:
    tokenizer = (base_dir / "tokenizer.json").read_text(encoding="utf-8")
    return Renderer(ChatTemplate(template, {}), tokenizer, "<|im_end|>", set())


def written(path: Path, rows: list[JsonObject]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rendered(row: Row, renderer: Renderer) -> RowLengths | str:
    try:
        return BaseLimits(renderer, None).lengths(row)
    except DataError as error:
        return error.message


@pytest.mark.parametrize("base", ["renderer", "strict", "unstable"])
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("limit", [30, 60, 200, 8192])
def test_faults_without_totals_are_those_of_reading_every_row(
    tmp_path: Path, request: pytest.FixtureRequest, base: str, maker: Callable[[random.Random], JsonObject], limit: int
) -> None:
    renderer: Renderer = request.getfixturevalue(base)
    path = written(tmp_path / "rows.jsonl", [maker(random.Random(number)) for number in range(80)])
    all_rows = check_file(path, CheckOptions(renderer, max_tokens=limit))
    faults = check_file(path, CheckOptions(renderer, base_totals=False, max_tokens=limit))
    assert (faults.errors, faults.warnings, faults.counts) == (all_rows.errors, all_rows.warnings, all_rows.counts)
    assert (faults.bad_rows, faults.base) == (all_rows.bad_rows, None)


@pytest.mark.parametrize("base", ["renderer", "strict", "unstable"])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_specimen_is_refused_where_its_rows_are(
    request: pytest.FixtureRequest, base: str, maker: Callable[[random.Random], JsonObject]
) -> None:
    renderer: Renderer = request.getfixturevalue(base)
    for number in range(100):
        row = maker(random.Random(number))
        form = form_of(row)
        assert form is not None
        theirs, ours = rendered(build_row(row), renderer), rendered(specimen(form), renderer)
        assert isinstance(theirs, str) == isinstance(ours, str), row
        assert not isinstance(theirs, str) or theirs == ours


def test_the_bound_of_a_rows_tokens_holds(tmp_path: Path, renderer: Renderer) -> None:
    for number, maker in enumerate(MAKERS):
        rows = [maker(random.Random(seed)) for seed in range(200)]
        path = written(tmp_path / f"{number}.jsonl", rows)
        scan = scan_file(path, CheckOptions().scan).rows
        assert scan.forms is not None
        added = max(BaseLimits(renderer, None).lengths(specimen(form))[0] for form in scan.forms)
        for row, bound in zip(rows, scan.most_tokens.tolist(), strict=True):
            assert BaseLimits(renderer, None).lengths(build_row(row))[0] <= bound + added


def test_rows_that_are_surely_within_the_limit_are_not_read_again(
    tmp_path: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "rows.jsonl", [chat_row(random.Random(number)) for number in range(40)])
    rows = scan_file(path, CheckOptions().scan).rows
    path.unlink()
    log = FindingLog()
    assert count_base(path, BaseLimits(renderer, 1_000_000), rows, log, totals=False) == (None, 0)
    assert not log.counts
    with pytest.raises(FileNotFoundError):
        count_base(path, BaseLimits(renderer, 1_000_000), rows, log, totals=True)


def test_forms_name_what_rendering_depends_on() -> None:
    assert chat_form(("user", "assistant")) == "chat|user|assistant"
    plain: JsonObject = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert form_of(plain) == chat_form(("user", "assistant"))
    silent: JsonObject = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " ", "weight": 0}],
        "functions": [{"name": "f"}],
    }
    assert form_of(silent) == "chat+tools|user|assistant-_"
    assert form_of({"prompt": "a", "completion": "b"}) == COMPLETION
    assert form_of({"messages": [{"role": "user", "content": "a"}], "answer": 1}) is None


def test_a_file_of_too_many_forms_is_read_row_by_row(tmp_path: Path, renderer: Renderer) -> None:
    def row(number: int) -> JsonObject:
        """The bits of the number are the roles that stand before the last turn."""
        roles = [("user", "assistant")[int(bit)] for bit in f"{number:b}"]
        return {"messages": [{"role": role, "content": "a"} for role in ("user", *roles, "user", "assistant")]}

    rows = [row(number) for number in range(MAX_FORMS + 1)]
    path = written(tmp_path / "rows.jsonl", rows)
    assert scan_file(path, CheckOptions().scan).rows.forms is None
    options = CheckOptions(renderer, base_totals=False, max_tokens=100)
    assert check_file(path, options).counts == check_file(path, CheckOptions(renderer, max_tokens=100)).counts


def test_rows_that_are_split_into_examples_are_counted(tmp_path: Path, unstable: Renderer, renderer: Renderer) -> None:
    turn: list[JsonValue] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows: list[JsonObject] = [{"messages": turn * (3 if number < 4 else 1)} for number in range(10)]
    path = written(tmp_path / "rows.jsonl", rows)
    counts = check_file(path, CheckOptions(unstable)).base
    assert counts is not None
    assert (counts.split_rows, counts.trained_examples) == (4, 18)
    shown = counts.to_json()
    assert (shown["split_rows"], shown["trained_examples"]) == (4, 18)
    whole = check_file(path, CheckOptions(renderer)).base
    assert whole is not None
    assert (whole.split_rows, whole.trained_examples) == (0, 10)


def test_what_a_template_leaves_out_beside_calls_is_told_at_the_row(base_dir: Path, tmp_path: Path) -> None:
    listed = load_renderer(family_base(base_dir, tmp_path, "listed"))
    tagged = load_renderer(family_base(base_dir, tmp_path, "tagged"))
    call: JsonObject = {"id": "call00001", "type": "function", "function": {"name": "time", "arguments": "{}"}}

    def row(content: str | None) -> JsonObject:
        said: JsonObject = {"role": "assistant", "content": content, "tool_calls": [call]}
        return {"messages": [{"role": "user", "content": "When?"}, said], "tools": [TOOL]}

    path = written(tmp_path / "rows.jsonl", [row(None), row("I look."), row("")])
    report = check_file(path, CheckOptions(listed))
    found = [(one.line, one.message) for one in report.warnings if one.code == "beside_calls_not_trained"]
    assert found == [(2, "The base's chat template leaves out the text of message 1, which stands beside calls.")]
    assert report.base is not None
    assert report.base.rows == 3
    assert "beside_calls_not_trained" not in check_file(path, CheckOptions(tagged)).counts
