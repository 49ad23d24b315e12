"""The published way to check chat rows (OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning"):
json, a loop over every message, tiktoken over every value, one process. Written anew here after its description.

Run by `bench/check.py` as `PYTHON bench/checking/cookbook_way.py FILE`; PYTHON must have tiktoken, which
downloads its ranks when first used; where that cannot be, the wheel of litellm
carries them, and this script finds them there.
"""

import json
import os
import resource
import sys
import time
from collections import defaultdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

KEYS = ("role", "content", "name", "function_call", "weight", "tool_calls", "tool_call_id")
ROLES = ("system", "user", "assistant", "function", "tool")


Row = dict[str, list[dict[str, str]]]


class Encoding(Protocol):
    def encode(self, text: str, *, disallowed_special: tuple[str, ...]) -> list[int]: ...


def load_encoding() -> Encoding:
    spec = find_spec("litellm")
    if spec is not None and spec.origin is not None and "TIKTOKEN_CACHE_DIR" not in os.environ:
        os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers")
    encoding: Encoding = import_module("tiktoken").get_encoding("cl100k_base")
    return encoding


def main(path: str) -> None:
    encoding = load_encoding()
    encoding.encode("warm", disallowed_special=())
    started, before = time.perf_counter(), time.process_time()
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        rows = [json.loads(line) for line in file]
    errors = format_errors(rows)
    lengths, answers, missing_system, missing_user = [], [], 0, 0
    for row in rows:
        messages = row["messages"]
        missing_system += not any(message["role"] == "system" for message in messages)
        missing_user += not any(message["role"] == "user" for message in messages)
        lengths.append(row_tokens(messages, encoding))
        answers.append(answer_tokens(messages, encoding))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cpu = time.process_time() - before
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu,
                "peak_bytes": peak,
                "tokens": sum(lengths),
                "errors": sum(errors.values()),
            }
        )
    )


def format_errors(rows: list[Row]) -> dict[str, int]:
    errors: dict[str, int] = defaultdict(int)
    for row in rows:
        if not isinstance(row, dict):
            errors["data_type"] += 1
            continue
        messages = row.get("messages", None)
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                errors["message_missing_key"] += 1
            if any(key not in KEYS for key in message):
                errors["message_unrecognized_key"] += 1
            if message.get("role", None) not in ROLES:
                errors["unrecognized_role"] += 1
            content = message.get("content", None)
            calls = message.get("function_call", None) or message.get("tool_calls", None)
            if (not content and not calls) or not isinstance(content or "", str):
                errors["missing_content"] += 1
        if not any(message.get("role", None) == "assistant" for message in messages):
            errors["example_missing_assistant_message"] += 1
    return errors


def row_tokens(messages: list[dict[str, str]], encoding: Encoding) -> int:
    total = 3
    for message in messages:
        total += 3
        for key, value in message.items():
            if isinstance(value, str):
                total += len(encoding.encode(value, disallowed_special=()))
            if key == "name":
                total += 1
    return total


def answer_tokens(messages: list[dict[str, str]], encoding: Encoding) -> int:
    return sum(
        len(encoding.encode(message["content"], disallowed_special=()))
        for message in messages
        if message["role"] == "assistant" and message["content"]
    )


if __name__ == "__main__":
    main(sys.argv[1])
