"""The result of a grader's run in OpenAI's shape, and reading a model's score."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from tunesmith.graders.grader import Grader, LabelModel, Multi, ScoreModel
from tunesmith.jsonvalue import JsonValue
from tunesmith.wire.graders import GraderRun

# OpenAI's service answers with these; its description has the 14 of them that are older.
FLAGS = (
    "formula_parse_error",
    "sample_parse_error",
    "sample_parse_error_details",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "invalid_variable_error_details",
    "other_error",
    "python_grader_server_error",
    "python_grader_server_error_type",
    "python_grader_runtime_error",
    "python_grader_runtime_error_details",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_refusal_error_details",
    "model_grader_parse_error",
    "model_grader_parse_error_details",
    "model_grader_exceeded_max_tokens_error",
    "model_grader_server_error_details",
    "endpoint_grader_internal_error",
    "endpoint_grader_internal_error_details",
    "endpoint_grader_server_error",
    "endpoint_grader_server_error_details",
    "endpoint_grader_safety_check_error",
)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")
SCORE_KEYS = ("result", "score")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a grading model read and wrote."""

    prompt: int
    completion: int
    cached: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion, self.cached + other.cached)

    @property
    def total(self) -> int:
        """The tokens read and written together."""
        return self.prompt + self.completion

    def to_json(self) -> dict[str, int]:
        """The tokens under OpenAI's names."""
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.total,
            "completion_tokens": self.completion,
            "cached_tokens": self.cached,
        }


@dataclass(slots=True)
class Record:
    """A run so far. One that went wrong has the reward 0 and its reason in `faults`."""

    reward: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)  # by model
    faults: dict[str, str] = field(default_factory=dict)  # flag -> sentence
    asked: dict[str, int] = field(default_factory=dict)  # by model, how often

    def spend(self, model: str, tokens: Tokens) -> None:
        """Adds what a model took."""
        self.tokens[model] = self.tokens.get(model, Tokens(0, 0)) + tokens
        self.asked[model] = self.asked.get(model, 0) + 1


def result(grader: Grader, record: Record, seconds: float) -> GraderRun:
    """The answer of a run that took `seconds`."""
    alone = isinstance(grader, ScoreModel | LabelModel)
    return {
        "reward": record.reward,
        "metadata": {
            "name": grader.name,
            "type": grader.type,
            "errors": _errors(record.faults),
            "execution_time": seconds,
            "scores": dict(record.scores) if isinstance(grader, Multi) else {},
            "token_usage": sum(one.total for one in record.tokens.values()) if record.tokens else None,
            "sampled_model_name": next(iter(record.tokens), None) if alone else None,
        },
        "sub_rewards": dict(record.scores) if isinstance(grader, Multi) else {},
        "model_grader_token_usage_per_model": {name: one.to_json() for name, one in record.tokens.items()},
    }


def _errors(faults: Mapping[str, str]) -> dict[str, bool | str | None]:
    def value(flag: str) -> bool | str | None:
        if flag.endswith(("_type", "_details")):
            return faults.get(flag.removesuffix("_details"))
        return flag in faults

    return {flag: value(flag) for flag in FLAGS}


def read_score(text: str) -> float | None:
    """The number that a model wrote; None where there is none, or several.

    Either alone, or as `{"result": 0.5}` or `{"score": 0.5}`, or the only number in its text.
    """
    try:
        value: JsonValue = orjson.loads(text.strip())
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        value = None
    if isinstance(value, dict):
        value = next((value[key] for key in SCORE_KEYS if key in value), None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = NUMBER.findall(text)
    return float(found[0]) if len(found) == 1 else None
