"""Other tools' rows: what each becomes here, and which of them leave a choice."""

import pytest

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.other_shapes.lost_text import SPEAKERS
from tunesmith.rows.other_shapes.pairs import PAIRS
from tunesmith.rows.other_shapes.recognise import convert
from tunesmith.rows.other_shapes.result import UnclearShapeError
from tunesmith.rows.row_faults import kind_of, row_faults

SYSTEM: JsonObject = {"role": "system", "content": "s"}
USER: JsonObject = {"role": "user", "content": "q"}
ANSWER: JsonObject = {"role": "assistant", "content": "a"}
OTHER: JsonObject = {"role": "assistant", "content": "b"}
CHAT: JsonObject = {"messages": [USER, ANSWER]}
WITH_SYSTEM: JsonObject = {"messages": [SYSTEM, USER, ANSWER]}
PREFERENCE: JsonObject = {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}
SCHEMA: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: JsonObject = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
CALL: JsonObject = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Oslo"}'}}
CALLED: JsonObject = {
    "messages": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "9"},
        ANSWER,
    ],
    "tools": [TOOL],
}
TURNS: list[JsonValue] = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]

SHAPES: dict[str, tuple[JsonValue, JsonObject]] = {
    "alpaca": ({"instruction": "q", "input": "", "output": "a"}, CHAT),
    "alpaca with input": (
        {"instruction": "q", "input": "more", "output": "a"},
        {"messages": [{**USER, "content": "q\n\nmore"}, ANSWER]},
    ),
    "alpaca with history": (
        {"instruction": "q", "output": "a", "system": "s", "history": [["q0", "a0"]]},
        {
            "messages": [
                SYSTEM,
                {**USER, "content": "q0"},
                {**ANSWER, "content": "a0"},
                USER,
                ANSWER,
            ]
        },
    ),
    "dolly": ({"instruction": "q", "context": "", "response": "a", "category": "qa"}, CHAT),
    "input and output": ({"input": "q", "output": "a"}, CHAT),
    "input and ideal": ({"input": [SYSTEM, USER], "ideal": "a"}, WITH_SYSTEM),
    "question and answer": ({"question": "q", "answer": "a"}, CHAT),
    "query and response": ({"query": "q", "response": "a"}, CHAT),
    "prompt and response": ({"system": "s", "prompt": "q", "response": "a"}, WITH_SYSTEM),
    "user and assistant": ({"system": "s", "user": "q", "assistant": "a"}, WITH_SYSTEM),
    "prompt and completion beside a system": ({"system": "s", "prompt": "q", "completion": "a"}, WITH_SYSTEM),
    "trl lists": ({"prompt": [SYSTEM, USER], "completion": [ANSWER]}, WITH_SYSTEM),
    "trl lists of several turns": (
        {"prompt": [USER, OTHER, USER], "completion": [ANSWER]},
        {"messages": [USER, {**OTHER, "weight": 0}, USER, ANSWER]},
    ),
    "trl preference": ({"prompt": "q", "chosen": "a", "rejected": "b"}, PREFERENCE),
    "trl preference lists": ({"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]}, PREFERENCE),
    "trl implicit prompt": ({"chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, PREFERENCE),
    "ultrafeedback": (
        {"prompt": "q", "chosen": [USER, ANSWER], "rejected": [USER, OTHER], "score_chosen": 8.5},
        PREFERENCE,
    ),
    "hh": ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, PREFERENCE),
    "alpaca preference": ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, PREFERENCE),
    "sharegpt preference": (
        {
            "conversations": TURNS[:1],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        PREFERENCE,
    ),
    "preference with messages": (
        {"messages": [USER], "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
        PREFERENCE,
    ),
    "preference of texts": (
        {"input": {"messages": [USER]}, "preferred_output": "a", "non_preferred_output": "b"},
        PREFERENCE,
    ),
    "sharegpt": ({"id": "1", "conversations": TURNS}, CHAT),
    "sharegpt with system": ({"system": "s", "conversations": TURNS, "tools": ""}, WITH_SYSTEM),
    "sharegpt with roles of ours": ({"conversations": [USER, ANSWER]}, CHAT),
    "sharegpt calls": (
        {
            "conversations": [
                TURNS[0],
                {"from": "function_call", "value": '{"name": "f", "arguments": {"city": "Oslo"}}'},
                {"from": "observation", "value": "9"},
                TURNS[1],
            ],
            "tools": '[{"name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]',
        },
        CALLED,
    ),
    "gemini": (
        {
            "systemInstruction": {"parts": [{"text": "s"}]},
            "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}],
        },
        WITH_SYSTEM,
    ),
    "gemini calls": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"city": "Oslo"}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": 9}}]},
                {"role": "model", "parts": [{"text": "a"}]},
            ],
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": "f", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}
                    ]
                }
            ],
        },
        CALLED,
    ),
    "anthropic": (
        {"system": "s", "messages": [USER, {**ANSWER, "content": [{"type": "text", "text": "a"}]}]},
        WITH_SYSTEM,
    ),
    "anthropic calls": (
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"city": "Oslo"}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "9"}]},
                ANSWER,
            ],
            "tools": [{"name": "f", "input_schema": SCHEMA}],
        },
        CALLED,
    ),
    "tools as text": (
        {
            **CALLED,
            "tools": '[{"type": "function", "function": {"name": "f", "parameters": '
            '{"type": "object", "properties": {"city": {"type": "string"}}}}}]',
        },
        CALLED,
    ),
    "messages as text": (
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        CHAT,
    ),
    "vertex chat": ({"messages": [{"author": "user", "content": "q"}, {"author": "bot", "content": "a"}]}, CHAT),
    "cohere": ({"preamble": "s", "message": "q", "chat_history": [], "text": "a"}, WITH_SYSTEM),
    "log": (
        {"request": {"model": "m", "messages": [SYSTEM, USER]}, "response": {"choices": [{"message": ANSWER}]}},
        WITH_SYSTEM,
    ),
    "flat log": ({"model": "m", "messages": [USER], "choices": [{"index": 0, "message": ANSWER}]}, CHAT),
    "batch request with an answer": (
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT},
        CHAT,
    ),
    "list of messages": ([USER, ANSWER], CHAT),
    "another key": ({"dialogue": [USER, ANSWER]}, CHAT),
    "misspelt messages": ({"mesages": [USER, ANSWER]}, CHAT),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_of_another_tool_is_named_and_converted(name: str) -> None:
    row, expected = SHAPES[name]
    converted = convert(row)
    assert converted is not None
    assert converted.row == expected
    assert [fault.code for fault in row_faults(row)] == ["other_shape"]
    assert [fault.code for fault in row_faults(expected) if CODES[fault.code].severity == "error"] == []
    assert kind_of(row) in (None, "chat", "completion", "preference")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a story"}, "nothing says where the answer begins"),
        ({"headline": "h", "body": "b"}, 'which of "headline", "body" is the prompt'),
        ({"question": "q", "context": "c", "answer": "a"}, 'also has "context"'),
        ({"question": "q", "options": ["x", "y"], "answer": "a"}, 'also has "options"'),
        ({"question": "q", "choices": ["x", "y"], "answer": "a"}, 'also has "choices"'),
        ({"passage": "p", "question": "q", "answer": "a"}, 'also has "passage"'),
        ({"instruction": "q", "output": "a", "response": "another"}, 'also has "response"'),
        ({"instruction": "q", "output": "a", "messages": [USER, OTHER]}, 'also has "messages"'),
        ({"conversations": TURNS, "instruction": "Be brief."}, 'also has "instruction"'),
        ({"conversations": TURNS, "notes": " ".join("words" for _ in range(20))}, 'also has "notes"'),
        ({"conversations": [*TURNS, {**USER, "answer": "x"}]}, 'also has "answer"'),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "instruction": "q", "input": "i", "output": "o"}, '"output"'),
        ({"prompt": "q", "completion": "a", "context": "c"}, 'The row also has "context"'),
        *(
            ({"messages": [USER, ANSWER], key: "x"}, f'The row also has "{key}"')
            for key in ("instruction", "question", "output", "context", "prompt", "answer")
        ),
        ({"messages": [USER, ANSWER], "answer": 42}, 'The row also has "answer"'),
        ({"messages": [USER, {**ANSWER, "translation": "x"}]}, 'A message also has "translation"'),
        ({**PREFERENCE, "question": "x"}, 'The row also has "question"'),
        ({"prompt": "q", "completion": "a", "label": True}, "KTO"),
        ({"messages": [USER, ANSWER], "label": False}, "keep only the good answers"),
        ({"chosen": "a", "rejected": "b"}, "nothing says where the answers begin"),
        ({"chosen": [ANSWER], "rejected": [OTHER]}, "no prompt"),
        ({"chosen": [USER, ANSWER], "rejected": [{**USER, "content": "x"}, OTHER]}, "differ before their last"),
        ({"custom_id": "1", "method": "POST", "url": "/v1", "body": {"messages": [USER]}}, "no answer to learn"),
        (
            {"id": "1", "custom_id": "1", "response": {"body": {"choices": [{"message": ANSWER}]}}},
            "without its request",
        ),
        ({"messages": [USER], "choices": [{"message": ANSWER}, {"message": OTHER}]}, "2 choices"),
        ({"system": "x", "messages": [SYSTEM, USER, ANSWER]}, "two different system messages"),
        ({"role": "user", "content": "q"}, "single message"),
        ({"conversations": [USER, {**ANSWER, "reasoning_content": "hm"}]}, '"reasoning_content"'),
    ],
    ids=lambda value: value if isinstance(value, str) else "row",
)
def test_what_would_need_a_guess_is_named_with_the_reason(row: JsonObject, reason: str) -> None:
    with pytest.raises(UnclearShapeError, match=reason):
        convert(row)
    (fault,) = row_faults(row)
    assert fault.code in ("unclear_shape", "unclear_columns")
    assert reason in fault.message


@pytest.mark.parametrize(
    "row",
    [
        CHAT,
        CALLED,
        PREFERENCE,
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "completion": "a", "id": 1},
        {"messages": [USER], "reference_answer": "x"},
        {"messages": [USER], "answer": 4},
    ],
    ids=["chat", "calls", "preference", "completion", "completion with id", "reinforcement", "reinforcement number"],
)
def test_rows_of_ours_are_not_taken_for_others(row: JsonObject) -> None:
    assert convert(row) is None


def test_dropped_keys_are_named() -> None:
    converted = convert({"id": 7, "conversations": [*TURNS, {**USER, "ts": 3}], "source": "web"})
    assert converted is not None
    assert converted.dropped == ("ts of a message", "id", "source")


@pytest.mark.parametrize(
    ("beside", "dropped"),
    [
        ({"question": "q"}, None),
        ({"prompt_id": "6e0f", "score": 4.5}, None),
        ({"answer": "", "context": None, "output": []}, None),
        ({"metadata": {"note": "word " * 20}, "url": "https://example.com/a", "title": "Of cats"}, None),
        ({"messages": [USER, ANSWER]}, ("prompt",)),
    ],
    ids=["repeated", "with an id", "empty", "metadata", "messages"],
)
def test_keys_whose_text_the_row_has_already_may_go(beside: JsonObject, dropped: tuple[str, ...] | None) -> None:
    row: JsonObject = {"prompt": "q", "chosen": "a", "rejected": "b", **beside}
    converted = convert(row)
    assert converted is not None
    assert converted.row == PREFERENCE
    assert converted.dropped == (dropped or tuple(beside))


def test_every_name_of_a_prompt_or_an_answer_speaks() -> None:
    names = {*PAIRS, *(answer for answers in PAIRS.values() for answer in answers)}
    assert names - SPEAKERS == {"source", "src", "user"}  # elsewhere where the row is from
