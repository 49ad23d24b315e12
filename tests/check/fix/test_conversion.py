"""Rows written in other tools' shapes and forms come out as the rows that were meant, and the check takes them."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.check.file_check import check_file
from tunesmith.check.fix.columns import Columns
from tunesmith.check.fix.fixed_file import FixOptions, fix_file
from tunesmith.check.fix.source import is_table
from tunesmith.check.report.openai_wording import job_error, status_details
from tunesmith.errors import InvalidRequest
from tunesmith.rows.codes import CODES

ROWS = 40
Messages = list[dict[str, str]]
TEXTS = [
    "Grüße, 世界",
    'say "hi"',
    "it's {fine}",
    "a\\b",
    "two\nlines",
    "[1, 2]",
    "a,b\tc;d",
    "emoji 🙂",
    "plain words",
]


def text(draw: random.Random, number: int) -> str:
    return f"{draw.choice(TEXTS)} {number} {draw.choice(TEXTS)}"


def chat(seed: int, turns: int = 3, *, system: bool = True) -> list[Messages]:
    """Conversations: a system message or none, and one to `turns` turns."""
    draw, made = random.Random(seed), []
    for number in range(ROWS):
        messages = [{"role": "system", "content": text(draw, number)}] if system and draw.random() < 0.5 else []
        for turn in range(draw.randint(1, turns)):
            messages.append({"role": "user", "content": text(draw, number * 10 + turn)})
            messages.append({"role": "assistant", "content": text(draw, number * 10 + turn)})
        made.append(messages)
    return made


def sharegpt(messages: Messages) -> object:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {
        "id": "x",
        "conversations": [{"from": names[one["role"]], "value": one["content"]} for one in messages],
    }


def gemini(messages: Messages) -> object:
    row: dict[str, object] = {}
    if messages[0]["role"] == "system":
        row["systemInstruction"] = {"role": "system", "parts": [{"text": messages[0]["content"]}]}
    turns = [one for one in messages if one["role"] != "system"]
    names = {"user": "user", "assistant": "model"}
    row["contents"] = [{"role": names[one["role"]], "parts": [{"text": one["content"]}]} for one in turns]
    return row


def anthropic(messages: Messages) -> object:
    if messages[0]["role"] != "system":
        return {"system": None, "messages": messages}
    turns = [
        {**one, "content": [{"type": "text", "text": one["content"]}]} if one["role"] == "assistant" else one
        for one in messages[1:]
    ]
    return {"system": messages[0]["content"], "messages": turns}


def log(messages: Messages) -> object:
    return {
        "request": {"model": "m", "messages": messages[:-1]},
        "response": {"id": "r", "choices": [{"index": 0, "message": messages[-1], "finish_reason": "stop"}]},
    }


def capitals(messages: Messages) -> object:
    return {"messages": [{**one, "role": one["role"].title()} for one in messages]}


def as_text(messages: Messages) -> object:
    return {"messages": json.dumps(messages)}


CHATS: dict[str, Callable[[Messages], object]] = {
    "sharegpt": sharegpt,
    "gemini": gemini,
    "anthropic": anthropic,
    "log": log,
    "capitals": capitals,
    "messages as text": as_text,
    "list of messages": list,
}
PAIRS: dict[str, Callable[[str, str], object]] = {
    "alpaca": lambda asked, said: {"instruction": asked, "input": "", "output": said},
    "input and output": lambda asked, said: {"input": asked, "output": said},
    "question and answer": lambda asked, said: {"question": asked, "answer": said, "source": "web"},
    "query and response": lambda asked, said: {"query": asked, "response": said},
    "prompt and response": lambda asked, said: {"prompt": asked, "response": said},
    "trl": lambda asked, said: {
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": said}],
    },
}


def converted(tmp_path: Path, content: bytes, options: FixOptions | None = None) -> list[object]:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    fix_file(source, target, options or FixOptions())
    assert source.read_bytes() == content
    report = check_file(target)
    assert report.ok, report.errors
    return [json.loads(line) for line in target.read_bytes().splitlines()]


def lines(rows: list[object]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", CHATS)
def test_a_conversation_comes_back_as_it_was_meant(shape: str, seed: int, tmp_path: Path) -> None:
    meant = chat(seed)
    rows = converted(tmp_path, lines([CHATS[shape](messages) for messages in meant]))
    assert rows == [{"messages": messages} for messages in meant]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", PAIRS)
def test_a_prompt_and_its_answer_come_back_as_they_were_meant(shape: str, seed: int, tmp_path: Path) -> None:
    meant = chat(seed, 1, system=False)
    written = [PAIRS[shape](asked["content"], said["content"]) for asked, said in meant]
    assert converted(tmp_path, lines(written)) == [{"messages": messages} for messages in meant]


@pytest.mark.parametrize("shape", ["texts", "answers", "whole", "implicit", "messages"])
def test_preferences_come_back_as_they_were_meant(shape: str, tmp_path: Path) -> None:
    written, meant = [], []
    for asked, good in chat(7, 1, system=False):
        bad = {"role": "assistant", "content": f"not {good['content']}"}
        meant.append({"input": {"messages": [asked]}, "preferred_output": [good], "non_preferred_output": [bad]})
        written.append(
            {
                "texts": {"prompt": asked["content"], "chosen": good["content"], "rejected": bad["content"]},
                "answers": {"prompt": [asked], "chosen": [good], "rejected": [bad]},
                "whole": {"prompt": asked["content"], "chosen": [asked, good], "rejected": [asked, bad]},
                "implicit": {"chosen": [asked, good], "rejected": [asked, bad], "score_chosen": 1.5},
                "messages": {"messages": [asked], "preferred_output": [good], "non_preferred_output": [bad]},
            }[shape]
        )
    assert converted(tmp_path, lines(written)) == meant


def table(delimiter: str) -> Callable[[list[object]], bytes]:
    def write(rows: list[object]) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(["", "Prompt", "Response"])
        for number, row in enumerate(rows):
            assert isinstance(row, dict)
            writer.writerow([number, *(one["content"] for one in row["messages"])])
        return out.getvalue().encode()

    return write


FORMS: dict[str, Callable[[list[object]], bytes]] = {
    "array": lambda rows: json.dumps(rows).encode(),
    "array over many lines": lambda rows: json.dumps(rows, indent=2).encode(),
    "array under data": lambda rows: json.dumps({"data": rows}, ensure_ascii=False).encode(),
    "objects over many lines": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
    "objects on one line": lambda rows: " ".join(json.dumps(row) for row in rows).encode(),
    "comma after each row": lambda rows: ",\n".join(json.dumps(row) for row in rows).encode(),
    "commas before brackets": lambda rows: lines(rows).replace(b"}]}\n", b"},],}\n"),
    "python": lambda rows: "".join(f"{row!r}\n" for row in rows).encode(),
    "crlf and blank lines": lambda rows: lines(rows).replace(b"\n", b"\r\n\r\n"),
    "marks": lambda rows: b"".join(b"\xef\xbb\xbf" + line + b"\n" for line in lines(rows).splitlines()),
    "utf-16": lambda rows: lines(rows).decode().encode("utf-16"),
    "utf-16 big end": lambda rows: b"\xfe\xff" + lines(rows).decode().encode("utf-16-be"),
    "utf-16 without a mark": lambda rows: lines(rows).decode().encode("utf-16-le"),
    "csv": table(","),
    "tsv": table("\t"),
    "semicolons": table(";"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_file_does_not_matter(form: str, tmp_path: Path) -> None:
    meant: list[object] = [{"messages": messages} for messages in chat(5, 1, system=False)]
    assert converted(tmp_path, FORMS[form](meant)) == meant


def test_objects_are_cut_right_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meant: list[object] = [{"messages": messages} for messages in chat(6)]
    for size in (1, 7, 64):
        monkeypatch.setattr("tunesmith.check.fix.source.BLOCK_BYTES", size)
        (tmp_path / f"{size}").mkdir()
        assert converted(tmp_path / f"{size}", json.dumps(meant, indent=1).encode()) == meant


def test_what_is_broken_in_an_array_is_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = [json.dumps({"messages": messages}) for messages in chat(8)]
    (tmp_path / "in.json").write_text("[\n" + ",\n".join([*rows[:5], '{"messages": [', *rows[5:]]) + "\n]")
    result = fix_file(tmp_path / "in.json", tmp_path / "out.jsonl")
    assert result.rows_in == result.rows_out + result.rejected
    assert result.rejected == 1
    assert (tmp_path / "out.jsonl").read_text().splitlines() == rows


def test_nan_is_null_and_a_key_twice_is_refused(tmp_path: Path) -> None:
    good = [f'{{"instruction": "q{number}", "input": NaN, "output": "a"}}' for number in range(10)]
    twice = "{'prompt': 'a', 'prompt': 'b', 'completion': 'c'}"
    (tmp_path / "in.jsonl").write_text("\n".join([*good, twice]))
    result = fix_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (result.rows_out, result.rejected) == (10, 1)
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[3])["messages"][0]["content"] == "q3"


def test_keys_without_a_place_are_counted_and_misspelt_ones_are_not_dropped(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "id": "m1"}]}
    (tmp_path / "in.jsonl").write_text(json.dumps({**row, "source": "web"}) + "\n" + json.dumps({**row, "tool": []}))
    result = fix_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert result.dropped == {"source": 1, "messages.id": 1}
    assert [one.code for one in result.log.errors] == ["extra_key"]


def test_nothing_is_written_when_no_row_is_left(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    result = fix_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (result.rows_out, result.rejected, result.is_written) == (0, 2, False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_user_may_say_what_the_columns_are(tmp_path: Path) -> None:
    content = lines([{"text": f"story {number}", "id": number} for number in range(12)])
    stories = converted(tmp_path, content, FixOptions(columns=Columns("text")))
    assert stories[2] == {"prompt": "", "completion": "story 2"}
    (tmp_path / "table").mkdir()
    rows = "".join(f"h{number},c{number},b{number}\r\n" for number in range(12))
    options = FixOptions(columns=Columns("Body", ("Head", "Colour")))
    chats = converted(tmp_path / "table", f"Head,Colour,Body\r\n{rows}".encode(), options)
    asked = {"role": "user", "content": "h1\n\nc1"}
    assert chats[1] == {"messages": [asked, {"role": "assistant", "content": "b1"}]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'"user"\n\x80', "line 2: byte 0x80 is not UTF-8.*--encoding cp1252"),
        ("prompt,completion\nGröße,3\n".encode("cp1252"), "line 2: byte 0xf6 is not UTF-8"),
        ("prompt,Größe\na,b\n".encode("cp1252"), "line 1: byte 0xf6"),
        (b"prompt,completion\na,b\n" * 9_000 + b"c,\xe9\n", "line 18001: byte 0xe9"),
        (b'prompt,completion\n"a,b\n', "line 2: .* a quotation mark is not closed"),
    ],
)
def test_a_table_that_cannot_be_read_names_the_line(tmp_path: Path, content: bytes, said: str) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(content)
    with pytest.raises(InvalidRequest, match=said):
        fix_file(source, tmp_path / "out.jsonl")
    check_file(source)  # what `fix` would do is looked at there, too
    assert not (tmp_path / "out.jsonl").exists()


def test_blank_lines_may_stand_before_the_header_of_a_table(tmp_path: Path) -> None:
    rows = b"".join(b"a%d,b\n" % number for number in range(10))
    assert converted(tmp_path, b"\n\nprompt,completion\n" + rows)[9] == {"prompt": "a9", "completion": "b"}


def test_an_encoding_may_be_named(tmp_path: Path) -> None:
    content = (
        lines([{"prompt": f"größe {number}", "completion": "ja"} for number in range(12)]).decode().encode("cp1252")
    )
    assert converted(tmp_path, content, FixOptions(encoding="cp1252"))[3] == {"prompt": "größe 3", "completion": "ja"}
    with pytest.raises(InvalidRequest, match="No encoding is called 'latin-99'"):
        fix_file(tmp_path / "in.jsonl", tmp_path / "other.jsonl", FixOptions(encoding="latin-99"))


def test_a_table_without_a_known_column_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("head,body\na,b\n")
    with pytest.raises(InvalidRequest, match="--prompt-field NAME --completion-field NAME"):
        fix_file(tmp_path / "in.csv", tmp_path / "out.jsonl")


def test_an_upload_names_the_shape_and_the_command(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines([{"instruction": "q", "input": "", "output": "a"}] * 10))
    report = check_file(path)
    fix = CODES["other_shape"].fix
    said = f"Example 1 is in another tool's shape: Alpaca's (instruction, input, output). {fix}"
    more = "(9 more errors in this file; `tunesmith check FILE` lists them.)"
    assert status_details(report) == f"Invalid file format. {said} {more}"
    error = job_error(report)
    assert error is not None
    assert error["code"] == "invalid_file_format"
    assert said in str(error["message"])


def test_a_line_with_a_carriage_return_is_no_header(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a\rb,c\n1,2\n")
    assert not is_table(file.read_bytes())
