"""What each side answered to a question, and what it took; as JSON too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from tunesmith.evals.criteria import Reply
from tunesmith.evals.questions import Question
from tunesmith.jsonvalue import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side answered, and what it took.

    `model` is the name that the server says has answered; `fingerprint` the server's name for the weights that did.
    """

    reply: Reply
    model: str
    fingerprint: str
    prompt_tokens: int
    tokens: int
    seconds: float
    cut: bool = False
    adapter: str | None = None  # digest of the tuned weights that answered, `NO_ADAPTER` of a base; None: not told
    loss: float | None = None  # of the file's answer: minus the sum of its tokens' log-probabilities
    loss_tokens: int = 0

    def to_json(self) -> JsonObject:
        """The answer as `from_json` reads it."""
        found: JsonObject = {
            **reply_json(self.reply),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "cut": self.cut,
        }
        if self.adapter is not None:
            found["adapter"] = self.adapter
        if self.loss is not None:
            found |= {"loss": self.loss, "loss_tokens": self.loss_tokens}
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, JsonValue]) -> "Answer":
        """Raises KeyError or TypeError where a field is missing."""
        loss, adapter = value.get("loss"), value.get("adapter")
        return cls(
            reply=reply_of(value),
            model=str(value["model"]),
            fingerprint=str(value["fingerprint"]),
            prompt_tokens=cast(int, value["prompt_tokens"]),
            tokens=cast(int, value["completion_tokens"]),
            seconds=cast(float, value["seconds"]),
            cut=bool(value["cut"]),
            adapter=None if adapter is None else str(adapter),
            loss=None if loss is None else float(cast(float, loss)),
            loss_tokens=cast(int, value.get("loss_tokens", 0)),
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with the answers of both sides."""

    question: Question
    before: Answer
    after: Answer

    def to_json(self) -> JsonObject:
        """With the question, for people and other programs."""
        return {
            "line": self.question.line,
            "messages": list(self.question.messages),
            "reference": reply_json(self.question.reference),
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def reply_json(reply: Reply) -> JsonObject:
    """A reply's text and calls."""
    calls: list[JsonValue] = [{"name": name, "arguments": arguments} for name, arguments in reply.calls]
    return {"text": reply.text, "tool_calls": calls}


def reply_of(value: Mapping[str, JsonValue]) -> Reply:
    """The reply that `reply_json` made this of. Raises KeyError or TypeError."""
    calls = cast("list[dict[str, str]]", value["tool_calls"])
    return Reply(str(value["text"]), tuple((one["name"], one["arguments"]) for one in calls))
