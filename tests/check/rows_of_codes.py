"""A row or a file for each code of the check, with the place and the sentence that it must get."""

import json

USER = {"role": "user", "content": "What is 2 + 2?"}
SYSTEM = {"role": "system", "content": "You count."}
ANSWER = {"role": "assistant", "content": "4"}
GOOD = {"messages": [SYSTEM, USER, ANSWER]}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


OPTIONAL_TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "object"}},
            "required": ["a"],
        },
    },
}


def call(arguments: object, name: str = "add", call_id: str = "c1") -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: object) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def chat(*messages: object, **more: object) -> dict[str, object]:
    return {"messages": list(messages), **more}


RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
NAMED = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{**ANSWER, "content": "5"}],
}

# code -> (line 11 of a file of good rows, path, message)
ROWS = {
    "invalid_json": (
        '{"messages": [}',
        "column 15",
        "A value is missing.",
    ),
    "not_utf8": (b'{"a": "\xff"}', "", "The line is not UTF-8: byte 0xff at position 7."),
    "lone_surrogate": (
        '{"messages": "\\ud800"}',
        "column 15",
        "A text has half a surrogate pair.",
    ),
    "too_deep": ('{"a":' + "[" * 100 + "]" * 100 + "}", "", "The JSON is nested more than 64 levels deep."),
    "duplicate_key": (
        '{"messages": [{"role": "user", "role": "user", "content": "x"}]}',
        "",
        'Key "role" occurs twice in one object.',
    ),
    "not_an_object": ("[1, 2]", "", "The row is a list, not an object."),
    "extra_key": (chat(USER, ANSWER, weight=1), "weight", 'The row contains an extra "weight".'),
    "missing_messages": ({"tools": [TOOL]}, "messages", "The row is missing key 'messages'."),
    "missing_assistant": (chat(SYSTEM, USER), "messages", "No message has the role 'assistant'."),
    "nothing_to_learn": (chat(USER, {**ANSWER, "weight": 0}), "messages", "Every assistant message has weight 0."),
    "mixed_kinds": ({"prompt": "a", "completion": "b"}, "", "A completion row in a file of chat rows."),
    "invalid_value": (
        chat(USER, ANSWER, parallel_tool_calls="yes"),
        "parallel_tool_calls",
        "'parallel_tool_calls' is text, not true or false.",
    ),
    "message_not_object": (chat("hi", ANSWER), "messages[0]", "The message is text, not an object."),
    "message_missing_key": (
        chat({"content": "hi"}, ANSWER),
        "messages[0].role",
        "Discriminator 'role' is missing in value.",
    ),
    "message_unrecognized_key": (chat({**USER, "mood": 1}, ANSWER), "messages[0].mood", 'Unknown key "mood".'),
    "unrecognized_role": (
        chat({**USER, "role": "human"}, ANSWER),
        "messages[0].role",
        'Role "human" is not known.',
    ),
    "missing_content": (chat(USER, {**ANSWER, "content": ""}), "messages[1].content", "The content is empty."),
    "invalid_content": (
        chat({**USER, "content": 7}, ANSWER),
        "messages[0].content",
        "The content is a number, not text.",
    ),
    "unsupported_part": (
        chat({**USER, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ANSWER),
        "messages[0].content[0].type",
        "A part of type 'image_url' is not text.",
    ),
    "invalid_part": (
        chat({**USER, "content": [{"type": "text"}]}, ANSWER),
        "messages[0].content[0]",
        "The part of type 'text' holds no text.",
    ),
    "invalid_weight": (chat(USER, {**ANSWER, "weight": 0.5}), "messages[1].weight", "The weight is 0.5."),
    "weight_ignored": (
        chat({**USER, "weight": 1}, ANSWER),
        "messages[0].weight",
        "A user message has a weight.",
    ),
    "name_not_trained": (
        chat({**USER, "name": "Ada"}, ANSWER),
        "messages[0].name",
        "The name is not shown to the model.",
    ),
    "key_not_trained": (
        chat(USER, {**ANSWER, "parsed": {"city": "Paris"}}),
        "messages[1].parsed",
        'The key "parsed" is not shown to the model.',
    ),
    "misplaced_key": (
        chat({**USER, "tool_call_id": "c1"}, ANSWER),
        "messages[0].tool_call_id",
        "A user message cannot have 'tool_call_id'.",
    ),
    "empty_content": (
        chat(USER, calling(call('{"a": 1}')), {**RESULT, "content": ""}, ANSWER, tools=[TOOL]),
        "messages[2].content",
        "The content is empty.",
    ),
    "blank_answer": (
        chat(USER, {**ANSWER, "content": " \n"}),
        "messages[1].content",
        "The answer is only white space.",
    ),
    "no_system": (chat(USER, ANSWER), "messages", "No system message."),
    "no_user": (chat(SYSTEM, ANSWER), "messages", "No user message."),
    "system_not_first": (
        chat(USER, SYSTEM, ANSWER),
        "messages[1]",
        "A system message comes after the first turn.",
    ),
    "role_order": (chat(USER, USER, ANSWER), "messages[1].role", "Two user messages in a row."),
    "last_not_assistant": (chat(USER, ANSWER, USER), "messages[2]", "The row ends with a user message."),
    "invalid_tool": (
        chat(USER, ANSWER, tools=[{"kind": "add"}]),
        "tools[0].function",
        "'tools' entry 0 is not a function declaration.",
    ),
    "invalid_tool_schema": (
        chat(USER, ANSWER, functions=[{"name": "add", "parameters": {"type": "thing"}}]),
        "functions[0].parameters",
        "The schema is not valid: ",
    ),
    "duplicate_tool": (
        chat(USER, ANSWER, tools=[TOOL, TOOL]),
        "tools[1].function.name",
        'Two tools are called "add".',
    ),
    "invalid_tool_call": (
        chat(USER, calling({"id": "c1"}), tools=[TOOL]),
        "messages[1].tool_calls[0].function",
        "The call names no function.",
    ),
    "arguments_not_text": (
        chat(USER, calling(call({"a": 1})), tools=[TOOL]),
        "messages[1].tool_calls[0].function.arguments",
        "The arguments are an object.",
    ),
    "arguments_not_json": (
        chat(USER, calling(call("a=1")), tools=[TOOL]),
        "messages[1].tool_calls[0].function.arguments",
        "The arguments are not a JSON object.",
    ),
    "arguments_do_not_fit": (
        chat(USER, calling(call('{"a": "one"}')), tools=[TOOL]),
        "messages[1].tool_calls[0].function.arguments",
        'The argument a does not fit the schema: "one" is not of type "integer".',
    ),
    "null_argument": (
        chat(USER, calling(call('{"a": 1, "b": null}')), tools=[OPTIONAL_TOOL]),
        "messages[1].tool_calls[0].function.arguments",
        "The optional argument b is null, which the schema does not allow.",
    ),
    "undeclared_tool": (
        chat(USER, calling(call("{}", name="sub")), tools=[TOOL]),
        "messages[1].tool_calls[0].function.name",
        'No tool "sub" is declared.',
    ),
    "no_tools_declared": (
        chat(USER, calling(call("{}"))),
        "messages",
        "The row calls tools but declares none.",
    ),
    "orphan_tool_message": (
        chat(USER, RESULT, ANSWER),
        "messages[1].tool_call_id",
        'No call before it has the id "c1".',
    ),
    "unanswered_call": (
        chat(USER, calling(call('{"a": 1}')), USER, ANSWER, tools=[TOOL]),
        "messages[1].tool_calls",
        'Call "c1" is not answered before the next turn.',
    ),
    "control_character": (
        chat(USER, {**ANSWER, "content": "four\u0007"}),
        "messages[1].content",
        "A control character, at character 4.",
    ),
    "mojibake": (
        chat(USER, {**ANSWER, "content": "caf\u00c3\u00a9"}),
        "messages[1].content",
        "Text decoded with the wrong character set, at character 3.",
    ),
    "replacement_character": (
        chat(USER, {**ANSWER, "content": "caf\ufffd"}),
        "messages[1].content",
        "A lost character (U+FFFD), at character 3.",
    ),
    "special_token_text": (
        chat(USER, {**ANSWER, "content": "4<|im_end|>"}),
        "messages[1].content",
        "Text that looks like a control token, at character 1.",
    ),
    "over_limit": (
        chat(SYSTEM, USER, {**ANSWER, "content": "four " * 200}),
        "",
        "The row has 225 tokens and the limit is 100: 125 are cut off its end.",
    ),
    "answer_cut": (
        chat(SYSTEM, {**USER, "content": "two " * 200}, ANSWER),
        "",
        "The row has 218 tokens, 216 of them before the answer; the limit is 100.",
    ),
    "contradictory_answers": (
        chat(SYSTEM, USER, {**ANSWER, "content": "5"}),
        "messages",
        "The prompt of line 1 has another answer here.",
    ),
}

PREFERENCES = {
    "missing_key": ({"input": {"messages": [USER]}}, "preferred_output", "The row is missing key 'preferred_output'."),
    "same_outputs": (
        {**NAMED, "non_preferred_output": [ANSWER]},
        "preferred_output",
        "Both outputs are the same.",
    ),
    "output_not_assistant": (
        {**NAMED, "preferred_output": [USER]},
        "preferred_output",
        "The output is not one assistant message.",
    ),
    "input_ends_with_assistant": (
        {**NAMED, "input": {"messages": [USER, ANSWER]}},
        "input.messages",
        "The input ends with an assistant message.",
    ),
}
COMPLETIONS = {
    "empty_completion": ({"prompt": "a", "completion": " "}, "completion", "The completion is empty."),
    "empty_prompt": ({"prompt": "", "completion": "b"}, "prompt", "The prompt is empty."),
}

FILES = {
    "empty_file": (b"", "The file is empty."),
    "compressed_file": (b"\x1f\x8b\x08\x00", "The file is compressed (gzip)."),
    "wrong_encoding": ('{"messages": []}'.encode("utf-16"), "The file is UTF-16, not UTF-8."),
    "not_jsonl": (
        b"prompt,completion\na,b\n",
        "Expected JSONL, where every line is a JSON dictionary. Line 1 is not a dictionary "
        '(line starts with: "prompt,completion").',
    ),
    "line_too_long": (
        b'{"a": "' + b"x" * 17_000_000 + b'"}\n',
        "The line has 17,000,010 bytes; at most 16,777,216 are read.",
    ),
    "too_few_examples": (
        json.dumps(GOOD).encode() * 1 + b"\n",
        "The file has 1 example(s), but must have at least 10 examples.",
    ),
    "few_examples": ((json.dumps(GOOD).encode() + b"\n") * 12, "The file has 12 examples."),
    "byte_order_mark": (
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        "The file starts with a byte-order mark; it is skipped.",
    ),
    "blank_line": (json.dumps(GOOD).encode() + b"\n\n \n", "2 blank line(s), the first one here."),
    "wrong_method": (
        (json.dumps(NAMED).encode() + b"\n") * 12,
        "The file holds preference rows, but the training method is 'supervised'.",
    ),
    "method_not_available": (
        (json.dumps(GOOD).encode() + b"\n") * 12,
        "The method 'reinforcement' is not available here; a job trains with supervised or dpo.",
    ),
}
