"""Every finding the check can make: code, severity, meaning, and how to fix it.

The codes are stable: scripts may match on them. `docs/dataset-format.md` prints this table.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Code:
    """What a finding is; `fix` says how to fix it."""

    severity: Severity
    meaning: str
    fix: str


def _error(meaning: str, fix: str) -> Code:
    return Code("error", meaning, fix)


def _warning(meaning: str, fix: str) -> Code:
    return Code("warning", meaning, fix)


FILE_CODES = {
    "empty_file": _error("The file holds no rows.", "Write one JSON object a line."),
    "compressed_file": _error("The file is compressed.", "Unpack it and upload the plain .jsonl file."),
    "wrong_encoding": _error("The file is UTF-16 or UTF-32.", "Run `tunesmith fix FILE`, which writes it as UTF-8."),
    "not_utf8": _error(
        "A line is not valid UTF-8.",
        "Save the file as UTF-8, or name its encoding: `tunesmith fix FILE --encoding cp1252`.",
    ),
    "not_jsonl": _error(
        "The file is not JSON Lines, but CSV, a JSON array, pretty-printed JSON or binary.",
        "Run `tunesmith fix FILE`, which reads JSON and CSV and writes one JSON object a line.",
    ),
    "line_too_long": _error(
        "A line is longer than the check will read.", "Split the row; check that line ends are \\n, one row a line."
    ),
    "too_few_examples": _error(
        "Fewer than 10 rows.", "Add rows: at least 10 are needed, 50 to 100 usually show a clear change."
    ),
    "few_examples": _warning("Fewer than 50 rows.", "50 to 100 good rows usually show a clear change; add some."),
    "no_sound_row": _error(
        "None of the first million rows is valid; the rest was not read.",
        "Fix what is named for the first rows: every one of them has a fault.",
    ),
    "byte_order_mark": _warning(
        "The file starts with a byte-order mark.", "Save it as UTF-8 without BOM, or run `tunesmith fix FILE`."
    ),
    "blank_line": _warning("Blank lines between rows.", "Delete them, or run `tunesmith fix`."),
    "mixed_kinds": _error(
        "A row is of a different kind from the file's first row.", "Keep one kind a file; split the file by kind."
    ),
    "wrong_method": _error(
        "The kind of rows does not fit the training method.",
        "Use 'supervised' for chat and prompt/completion rows, 'dpo' for preference rows. Rows that end with the user "
        "are for 'reinforcement', which is checked but not trained here: end them with the assistant's answer.",
    ),
    "method_not_available": _error(
        "The rows or the method are for reinforcement, which no job here trains.",
        "For supervised training end each row with the assistant's answer, and keep no other keys than messages, tools "
        "and parallel_tool_calls.",
    ),
}

ROW_CODES = {
    "invalid_json": _error(
        "A line is not JSON.",
        "Fix the syntax at the place named. `tunesmith fix FILE` does it for stray commas, single quotes, NaN, marks "
        "in front of a row, and several rows on a line or one on several.",
    ),
    "too_deep": _error("JSON nested too deeply.", "Flatten the row; real rows need fewer than 64 levels."),
    "not_an_object": _error("A row is JSON, but not an object.", 'Write {"messages": [...]}.'),
    "duplicate_key": _error("A key occurs twice in one object.", "Keep one of them: readers disagree on which counts."),
    "extra_key": _error("An unknown key at the top of a row.", "Remove the key, or check its spelling."),
    "missing_key": _error("A row lacks a key that its kind needs.", "Add the key."),
    "missing_messages": _error(
        "A row has no list of messages.", 'Give the row "messages": a list with at least a user and an assistant turn.'
    ),
    "invalid_value": _error("A value is of the wrong type or out of range.", "Give a value of the type named."),
    "missing_assistant": _error(
        "A row has no assistant message.", "Add the answer that the model should learn, with role 'assistant'."
    ),
    "nothing_to_learn": _error(
        "A row has no token to learn from.", "Give at least one assistant message some content and weight 1."
    ),
    "empty_completion": _error("A completion is empty.", "Write the text that should follow the prompt."),
    "empty_prompt": _warning("A prompt is empty.", "Write the prompt, or keep it empty to learn free text."),
    "other_shape": _error(
        "A row is written as another tool writes it.",
        "Run `tunesmith fix FILE`: it writes such rows as they are written here, into a new file.",
    ),
    "unclear_shape": _error(
        "A row is written as another tool writes it, and converting it would need a guess.",
        "Change the rows as said; `tunesmith fix` converts only what leaves no choice.",
    ),
    "unclear_columns": _error(
        "Nothing says which texts of a row are the prompt and which the answer.",
        "Name them: `tunesmith fix FILE --prompt-field NAME --completion-field NAME`; without --prompt-field all of "
        "the text is learned.",
    ),
    "same_outputs": _error(
        "Preferred and non-preferred output are the same.", "Give two different answers, or delete the row."
    ),
    "output_not_assistant": _error(
        "A preference output is not one assistant message.",
        'Write [{"role": "assistant", "content": "..."}], one message.',
    ),
    "input_ends_with_assistant": _error(
        "The conversation before the outputs ends with the assistant.",
        "End it with the user's turn, which the outputs answer.",
    ),
    "not_ending_with_user": _error(
        "A reinforcement row does not end with the user's turn.", "End the messages with the question to be answered."
    ),
}

MESSAGE_CODES = {
    "message_not_object": _error("A message is not an object.", 'Write {"role": "...", "content": "..."}.'),
    "message_missing_key": _error("A message lacks role, content or another key it needs.", "Add the key."),
    "message_unrecognized_key": _error("A message has an unknown key.", "Remove the key, or check its spelling."),
    "unrecognized_role": _error(
        "A role is not one of system, developer, user, assistant, tool, function.",
        "Use system, developer, user, assistant, tool or function.",
    ),
    "missing_content": _error(
        "A message has no content, and no call or refusal in its place.",
        "Write the content, or delete the message.",
    ),
    "invalid_content": _error("A content is neither text nor a list of text parts.", "Write the content as a string."),
    "unsupported_part": _error(
        "A content part is an image, audio or a file.", "Only text is trained here; remove the part."
    ),
    "invalid_part": _error("A content part is malformed.", 'Write {"type": "text", "text": "..."}.'),
    "invalid_weight": _error(
        "A weight is neither 0 nor 1.",
        "Write 0 (do not learn) or 1 (learn); `tunesmith fix FILE` does it for true, false and text.",
    ),
    "weight_ignored": _warning(
        "A weight on a message that is never learned.", "Remove it: only assistant messages are learned."
    ),
    "name_not_trained": _warning(
        "A message has a name, which the base's template has no place for.",
        "Say the name in the content if it matters.",
    ),
    "key_not_trained": _warning(
        "A message has a key that a client added, such as `parsed` or `annotations`.",
        "Nothing is lost: the content is trained. Remove the key to be rid of the warning.",
    ),
    "misplaced_key": _error("A key on a message whose role does not take it.", "Move it to the right message."),
    "empty_content": _warning("A tool message has no content.", "Write the result, or an empty JSON object."),
    "blank_answer": _warning("An answer is only white space.", "Write the answer, or give the message weight 0."),
    "no_system": _warning(
        "Rows without a system message.", "Fine if you also serve without one; otherwise add the one you will use."
    ),
    "no_user": _warning("Rows without a user message.", "Add the user's turn, unless this is intended."),
    "system_not_first": _warning(
        "A system message comes after the first turn.", "Put the instructions first, as you will when serving."
    ),
    "role_order": _warning("Turns do not alternate.", "Merge neighbouring turns of one role, or add the missing turn."),
    "last_not_assistant": _warning(
        "A row ends without an answer; the last turns teach nothing.", "Add the answer, or remove the last turns."
    ),
}

TOOL_CODES = {
    "beside_calls_not_trained": _warning(
        "The base's template leaves out what a message says beside its calls.",
        "Give the calls a message without text and reasoning, or choose a base whose template writes both.",
    ),
    "invalid_tool": _error(
        "A declared tool is malformed.", 'Write {"type": "function", "function": {"name": "...", "parameters": {...}}}.'
    ),
    "invalid_tool_schema": _error("A tool's parameters are not a JSON schema.", "Fix the schema at the place named."),
    "duplicate_tool": _error("Two tools have one name.", "Rename or remove one of them."),
    "invalid_tool_call": _error(
        "A tool call is malformed.",
        'Write {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}.',
    ),
    "arguments_not_text": _error(
        "A call's arguments are JSON instead of JSON text.", "Put them into a string; `tunesmith fix` does it."
    ),
    "arguments_not_json": _error("A call's arguments are not a JSON object.", "Write the arguments as JSON text."),
    "arguments_do_not_fit": _error(
        "A call's arguments do not fit the declared schema.", "Fix the arguments or the declaration."
    ),
    "null_argument": _warning(
        "An optional argument is null, which its declared schema does not allow.",
        "Leave the argument out, or allow null in the declaration: the model will write null too.",
    ),
    "undeclared_tool": _error(
        "A call names a tool that the row does not declare.", 'Add the tool to the row\'s "tools", or correct the name.'
    ),
    "no_tools_declared": _warning(
        "A row calls tools but declares none.", 'Declare them in "tools", as you will when serving.'
    ),
    "orphan_tool_message": _error(
        "A tool message answers no call.", "Give it the id of a call in the assistant message before it."
    ),
    "unanswered_call": _warning(
        "A call is not answered before the next turn.", "Add the tool message with the call's id."
    ),
}

TEXT_CODES = {
    "lone_surrogate": _error("Half a surrogate pair.", "Write the whole character, or U+FFFD in its place."),
    "control_character": _warning("Control characters in the text.", "Remove them; `tunesmith fix` does not."),
    "mojibake": _warning(
        "Text that was decoded with the wrong character set, such as \u00c3\u00a9 for \u00e9.",
        "Read the source again as UTF-8.",
    ),
    "replacement_character": _warning(
        "U+FFFD, the mark of a lost character.", "Read the source again with its right encoding."
    ),
    "unwritable_character": _warning(
        "A character that the base's tokenizer has no token for.",
        "Remove or replace it: the model can neither read nor write it.",
    ),
    "special_token_text": _warning(
        "Text that looks like a model's control token.",
        "It is trained as plain text and cannot end a turn; remove it if it is left over from a template.",
    ),
    "over_limit": _warning(
        "A row is longer than the limit; the end is cut off.", "Shorten or split the row; the number cut is named."
    ),
    "answer_cut": _error(
        "No part of a row's answer is within the token limit.", "Shorten what comes before the answer."
    ),
    "not_renderable": _error(
        "The base's chat template does not take a row.", "Change the row as the template's own message says."
    ),
    "no_chat_template": _error(
        "The file holds chats, and the base has no chat template that works.",
        "Use prompt/completion rows, or an instruct model as base.",
    ),
    "reasoning_not_trained": _warning(
        "Messages have reasoning_content, which the base's template has no place for.",
        "Write the reasoning into the content if it is to be learned, as in <think>...</think>.",
    ),
    "contradictory_answers": _warning(
        "One prompt with different answers.", "Keep the best answer, unless variety is intended."
    ),
    "many_system_prompts": _warning(
        "Many different system messages.", "Use the one you will serve with, unless they are supposed to differ."
    ),
}

RISK_CODES = {
    "duplicate_row": _warning("A duplicate row.", "Keep one of them; `tunesmith fix` drops the others."),
    "near_duplicate": _warning(
        "A row is nearly the same as an earlier one.", "Keep the better one, unless the repetition is intended."
    ),
    "leak": _warning(
        "A row of the validation file is also in the training file.",
        "Remove it from one of them: otherwise the validation loss looks better than it is.",
    ),
    "near_leak": _warning(
        "A row of the validation file is nearly the same as one of the training file.",
        "Remove it from one of them: otherwise the validation loss looks better than it is.",
    ),
    "email_address": _warning("An e-mail address.", "Replace it with a made-up one; a tuned model may repeat it."),
    "phone_number": _warning("A telephone number.", "Replace it with a made-up one; a tuned model may repeat it."),
    "card_number": _warning("A payment card's number.", "Replace it; a tuned model may repeat it."),
    "iban": _warning("A bank account's number.", "Replace it; a tuned model may repeat it."),
    "ip_address": _warning("An IP address.", "Replace it, unless it is supposed to be learned."),
    "secret": _warning(
        "An API key, token or private key.", "Remove it and revoke it: anyone with the file or the model can use it."
    ),
    "flagged": _warning(
        "The moderation of the training data flagged a row.",
        "Look at the row; remove it, or set `moderation` to 'off' if it is intended.",
    ),
}

CODES: dict[str, Code] = FILE_CODES | ROW_CODES | MESSAGE_CODES | TOOL_CODES | TEXT_CODES | RISK_CODES
