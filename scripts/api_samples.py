"""What `api_coverage.py` sends: for each operation a request that is complete, and for each further field a value."""

import json
from typing import Any

Json = dict[str, Any]

EVALS = "/v1/evals"
CHAT, TEXT, JOBS, UPLOADS = "/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/jobs", "/v1/uploads"
BASE = "smollm2-135m-instruct"
MARK = "coverage-7391"  # a value that can be told from any other: where it comes back, it was kept
NONSENSE: Json = {"nonsense": [True]}  # of no field's type
FUNCTION: Json = {"name": "rain", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}
FULL_FUNCTION = [{**FUNCTION, "description": MARK, "strict": True}]
CHOSEN = [{"type": "function", "function": {"name": "rain"}}]
SCHEMA: Json = {"name": "sky", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
TOOLS: Json = {"tools": [{"type": "function", "function": FUNCTION}]}
GRADER: Json = {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "reference": "a"}
GRADER["operation"] = "eq"
HYPERPARAMETERS: Json = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0}
DPO: Json = {"type": "dpo", "dpo": {"hyperparameters": {**HYPERPARAMETERS, "beta": 0.1}}}
EXPIRY: Json = {"anchor": "created_at", "seconds": 3600}
ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"City {n}?"}, {"role": "assistant", "content": "Rain."}]})
    + "\n"
    for n in range(10)
).encode()

SAME: Json = {**GRADER, "reference": "{{item.answer}}"}
LABEL: Json = {
    "type": "label_model",
    "name": "kind",
    "model": BASE,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
LABEL["input"] = [{"role": "user", "content": "{{item.answer}}"}]
NEAR: Json = {"type": "text_similarity", "name": "near", "input": "a", "reference": "b", "pass_threshold": 0.5}
NEAR["evaluation_metric"] = "fuzzy_match"
RATE: Json = {"type": "score_model", "name": "rate", "model": BASE, "range": [0, 1], "pass_threshold": 0.5}
RATE |= {
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Rate {{item.answer}}."}]}]
}
RATE["sampling_params"] = {"seed": 7, "temperature": 0.5, "top_p": 0.5, "max_completions_tokens": 4}
CODE: Json = {
    "type": "python",
    "name": "code",
    "source": "def grade(sample, item): return 1",
    "image_tag": "2025-05-08",
}
CRITERIA = [SAME, NEAR, LABEL, RATE, CODE]
CONFIG: Json = {"type": "custom", "item_schema": {"type": "object"}}
ANSWERED: Json = {
    "type": "completions",
    "source": {"type": "file_content", "content": [{"item": {"answer": "a"}}]},
    "input_messages": {"type": "template", "template": [{"role": "user", "content": "Say {{item.answer}}."}]},
    "model": BASE,
    "sampling_params": {"max_completion_tokens": 4},
}

WHOLE: dict[str, Json] = {  # complete requests; `POST /v1/files` and parts send ROWS beside
    CHAT: {"model": BASE, "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 4, "store": True},
    f"{CHAT}/{{completion_id}}": {"metadata": {"kind": MARK}},
    TEXT: {"model": BASE, "prompt": "Rain falls", "max_tokens": 4},
    "/v1/files": {"purpose": "fine-tune"},
    "/v1/fine_tuning/alpha/graders/run": {"grader": GRADER, "model_sample": "a"},
    "/v1/fine_tuning/alpha/graders/validate": {"grader": GRADER},
    EVALS: {"data_source_config": CONFIG, "testing_criteria": [SAME, LABEL]},
    f"{EVALS}/{{eval_id}}": {"name": "rain"},
    f"{EVALS}/{{eval_id}}/runs": {"data_source": ANSWERED},
    "/v1/moderations": {"input": "I like rain."},
    UPLOADS: {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": len(ROWS), "mime_type": "text/jsonl"},
}

COMMON: Json = {
    "frequency_penalty": 0.5,
    "logit_bias": {"5": 1},
    "n": 2,
    "presence_penalty": 0.5,
    "seed": 7,
    "stop": ["x"],
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": True},
    "temperature": 0.5,
    "top_p": 0.5,
    "user": MARK,
}
SAMPLES: dict[str, Json] = {
    CHAT: {
        **COMMON,
        "audio": {"voice": "alloy", "format": "wav"},
        "function_call": {"name": "rain"},
        "functions": [FUNCTION],
        "logprobs": True,
        "max_tokens": 4,
        "metadata": {"kind": MARK},
        "modalities": ["text"],
        "moderation": {"model": "omni-moderation-latest"},
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "Hi"},
        "prompt_cache_key": MARK,
        "prompt_cache_options": {"mode": MARK},
        "prompt_cache_retention": "in_memory",
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "safety_identifier": MARK,
        "service_tier": "auto",
        "tool_choice": "required",
        "tools": TOOLS["tools"],
        "top_logprobs": 2,
        "verbosity": "low",
        "web_search_options": {},
    },
    TEXT: {**COMMON, "best_of": 2, "echo": True, "logprobs": 2, "suffix": "."},
    "/v1/files": {"expires_after": EXPIRY},
    JOBS: {
        "hyperparameters": HYPERPARAMETERS,
        "integrations": [{"type": "wandb", "wandb": {"project": "rain"}}],
        "metadata": {"kind": MARK},
        "method": DPO,
        "seed": 7,
        "suffix": "rain",
    },
    "/v1/fine_tuning/alpha/graders/run": {"item": {"a": "b"}},
    EVALS: {"name": MARK, "metadata": {"kind": MARK}, "data_source_config": CONFIG, "testing_criteria": CRITERIA},
    f"{EVALS}/{{eval_id}}": {"name": MARK, "metadata": {"kind": MARK}},
    f"{EVALS}/{{eval_id}}/runs": {"name": MARK, "metadata": {"kind": MARK}, "data_source": ANSWERED},
    "/v1/moderations": {"model": "omni-moderation-latest"},
    UPLOADS: {"expires_after": EXPIRY},
}
ALTERNATIVES: dict[str, list[Any]] = {  # further values, which have the fields that the first one lacks
    "functions": [FULL_FUNCTION],
    "integrations": [[{"type": "wandb", "wandb": {"project": "rain", "name": "n", "entity": "e", "tags": ["t"]}}]],
    "method": [
        {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}},
        {"type": "reinforcement", "reinforcement": {}},
    ],
    "response_format": [{"type": "json_schema", "json_schema": {**SCHEMA, "strict": True, "description": MARK}}],
    "tool_choice": [
        {"type": "function", "function": {"name": "rain"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": CHOSEN}},
    ],
    "tools": [[{"type": "function", "function": FULL_FUNCTION[0]}]],
}
BESIDE: dict[str, Json] = {  # what a field needs to make sense
    "function_call": {"functions": [FUNCTION], "max_completion_tokens": 60},
    "max_tokens": {"max_completion_tokens": None},
    "parallel_tool_calls": TOOLS,
    "stream_options": {"stream": True},
    "tool_choice": {**TOOLS, "max_completion_tokens": 60},
    "top_logprobs": {"logprobs": True},
}
QUERY: dict[str, tuple[str, str]] = {  # as it is sent; a value that changes the answer
    "limit": ("limit", "0"),
    "after": ("after", "nothing"),
    "model": ("model", "nothing"),
    "metadata": ("metadata[kind]", "nothing"),
    "project_id": ("project_id", "default"),
    "purpose": ("purpose", "vision"),
    "order": ("order", "asc"),
    "order_by": ("order_by", "updated_at"),
    "status": ("status", "fail"),
}
