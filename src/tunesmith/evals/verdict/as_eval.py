"""A job's verdict as an eval with two finished runs: base and tuned model.

So that OpenAI's clients read it: its rows are the runs' output items, and each criterion has a result for each row that
it has to do with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tunesmith.evals.answers import Answer, reply_of
from tunesmith.evals.criteria import CRITERIA, Criterion, Reply
from tunesmith.evals.runs.results import state, verdicts
from tunesmith.evals.runs.samples import Asking, output_message
from tunesmith.evals.runs.schema import shown_schema
from tunesmith.evals.verdict.graders import HALF, grader
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store.evals.rows import FinishedEval, FinishedRun, Invocations, NewEval, NewRun, Saved
from tunesmith.store.ids import new_item_id

LONGEST = 512  # characters of a value in metadata, by OpenAI's rule
SIDES = ("before", "after")
TEXT: JsonObject = {"type": "string"}
ITEM_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "line": {"type": "integer"},
        "input": {"type": "array", "items": {"type": "object"}},
        "reference": {
            "type": "object",
            "properties": {"text": TEXT, "tool_calls": {"type": "array", "items": {"type": "object"}}},
            "required": ["text", "tool_calls"],
        },
    },
    "required": ["input", "reference"],
}


@dataclass(frozen=True, slots=True)
class OfJob:
    """The job whose verdict it is."""

    id: str
    project: str
    key_id: str | None


def as_eval(found: JsonObject, job: OfJob) -> FinishedEval | None:
    """The eval of an `evaluation.json`; None where no criterion is known here.

    Raises KeyError or TypeError for what is no evaluation.
    """
    known = {one.name: one for one in CRITERIA}
    names = [str(cast(JsonObject, one)["name"]) for one in cast(list[JsonValue], found["criteria"])]
    criteria = [known[name] for name in names if name in known]
    if not criteria:
        return None
    about = {"fine_tuning_job": job.id, "verdict": str(found["verdict"])}
    sentence = cast(list[str], found["sentences"])[0]
    new = NewEval(
        project=job.project,
        name=f"Verdict of {job.id}",
        data_source_config={"type": "custom", "schema": shown_schema(ITEM_SCHEMA, with_sample=True)},
        testing_criteria=tuple(grader(one) for one in criteria),
        metadata={**about, **_noted(found), "decides": criteria[0].name, "sentence": sentence[:LONGEST]},
    )
    samples = cast(list[JsonObject], found["samples"])
    most = cast(int, found.get("max_completion_tokens") or 0)
    runs = [_run(job, str(found[side]), side, _Rows(samples, side, criteria, most)) for side in SIDES]
    return FinishedEval(new, tuple(runs))


def _noted(found: JsonObject) -> dict[str, str]:
    """How the rows were chosen, and what the criterion does not look at."""
    notes = "; ".join(map(str, cast(list[JsonValue], found.get("notes") or [])))
    return {"notes": notes[:LONGEST]} if notes else {}


class _Rows:
    """The rows of one side, as items of a run."""

    def __init__(self, samples: Sequence[JsonObject], side: str, criteria: Sequence[Criterion], most: int) -> None:
        self.items = [_item(one) for one in samples]
        self.most = most
        self._references = [reply_of(cast(JsonObject, one["reference"])) for one in samples]
        self._answers = [Answer.from_json(cast(JsonObject, one[side])) for one in samples]
        self._criteria = criteria

    def saved(self, asking: Asking) -> tuple[tuple[JsonObject, Saved], ...]:
        """Each item with what it was answered and how that was judged."""
        rows = zip(self.items, self._answers, self._references, strict=True)
        return tuple((item, self._saved(asking, item, answer, reference)) for item, answer, reference in rows)

    def _saved(self, asking: Asking, item: JsonObject, answer: Answer, reference: Reply) -> Saved:
        scores = [one.judge(answer.reply, reference) for one in self._criteria]
        found = [_result(one, score) for one, score in zip(self._criteria, scores, strict=True)]
        results = [one for one in found if one is not None]
        passed = iter(verdicts(results))
        spent = {answer.model: Invocations(1, answer.prompt_tokens, answer.tokens)}
        return Saved(
            new_item_id(),
            _sample(asking, item, answer),
            tuple(results),
            state(results),
            tuple(None if one is None else next(passed) for one in found),
            spent,
        )


def _run(job: OfJob, model: str, side: str, rows: _Rows) -> FinishedRun:
    content: list[JsonValue] = [{"item": item} for item in rows.items]
    sampling: JsonObject = {"temperature": 0}
    if rows.most:
        sampling["max_completion_tokens"] = rows.most
    asking = Asking(model, None, "item.input", sampling, rows.most)
    data_source: JsonObject = {
        "type": "completions",
        "source": {"type": "file_content", "content": content},
        "input_messages": {"type": "item_reference", "item_reference": "item.input"},
        "model": model,
        "sampling_params": sampling,
    }
    metadata = {"fine_tuning_job": job.id, "side": side}
    return FinishedRun(NewRun("", job.project, job.key_id, model, model, data_source, metadata), rows.saved(asking))


def _item(sample: JsonObject) -> JsonObject:
    return {"line": sample["line"], "input": sample["messages"], "reference": sample["reference"]}


def _result(criterion: Criterion, score: float | None) -> JsonObject | None:
    if score is None:
        return None
    kind = grader(criterion)["type"]
    passed = score >= HALF if criterion.graded else score == 1.0
    return {"name": criterion.name, "type": kind, "score": score, "passed": passed, "sample": None}


def _sample(asking: Asking, item: JsonObject, answer: Answer) -> JsonObject:
    reply = answer.reply
    calls: list[JsonValue] = [
        {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for place, (name, arguments) in enumerate(reply.calls)
    ]
    return {
        **asking.sample(cast(list[JsonValue], item["input"])),
        "output": [output_message(reply.text, calls)],
        "finish_reason": "length" if answer.cut else "tool_calls" if calls else "stop",
        "model": answer.model,
        "usage": {
            "total_tokens": answer.prompt_tokens + answer.tokens,
            "completion_tokens": answer.tokens,
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": 0,
        },
    }
