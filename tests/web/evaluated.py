"""A finished job with a verdict, made through the store's worker side; its numbers are those of the real evaluation."""

import json
from dataclasses import replace

from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.criteria import Reply
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.forgetting import forgetting, general_questions
from tunesmith.evals.questions import Question
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, JobStatus, NewFile, NewJob, Store

HOSTILE = "<script>alert(1)</script>\"'&\u202e" + "x" * 10_000
BASE = "smollm2-135m-instruct"
NO_ADAPTER = "none"


def make_evaluation(rows: int = 40, hostile: bool = True) -> Evaluation:
    """Half of the rows gained, a few lost; the first row's texts are hostile."""
    pairs = []
    for number in range(rows):
        wanted = f"Label {number % 5}"
        before = wanted if number % 8 in (0, 1) else "I do not know"
        after = "Something else" if number % 8 == 0 else wanted if number % 4 else "Label x"
        text = HOSTILE if hostile and not number else f"Which label has item {number}?"
        messages: tuple[JsonObject, ...] = (
            {"role": "system", "content": "Answer with the label."},
            {"role": "user", "content": text},
        )
        question = Question(number + 1, messages, {}, Reply(wanted))
        pairs.append(Pair(question, _answer(before, BASE, 0.8), _answer(after, "ft:model", 0.5)))
    found = evaluate(BASE, "ft:model", pairs, [(99, "too long")], base=NO_ADAPTER)
    general = general_questions()[:60]
    asked = [json.loads(one.reference.text) for one in general]
    replies = [Reply(str((row["answers"] or [json.dumps(row.get("value"))])[0])) for row in asked]
    half = [one if number % 2 else Reply("?") for number, one in enumerate(replies)]
    leaks: JsonObject = {"validation_rows": rows, "threshold": 0.8, "exact": 2, "near": 1, "complete": True}
    return replace(found, forgetting=forgetting(general, replies, half), leaks=leaks, notes=("40 of 90 rows",))


def _answer(text: str, model: str, seconds: float) -> Answer:
    adapter = NO_ADAPTER if model == BASE else "ab" * 32
    return Answer(
        Reply(text), model, f"fp_{model}", 30, len(text.split()), seconds, adapter=adapter, loss=seconds, loss_tokens=4
    )


def finish_with_verdict(
    store: Store, settings: Settings, content: bytes | None = None, project: str = "default"
) -> str:
    """The id of a succeeded job whose file `evaluation.json` is `content`, or the evaluation above."""
    found = make_evaluation()
    blob = store.blobs.write([b"{}\n"])
    file = store.files.create(blob, NewFile("fine-tune", "rows.jsonl", "processed", project=project))
    numbers: JsonObject = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 2.0}
    method: JsonObject = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    job = store.jobs.create(NewJob(BASE, BASE, file.id, "acme", 7, numbers, method, suffix="labels", project=project))
    _, lease = store.queue.claim("tests", [JobStatus.VALIDATING], 60) or (None, None)
    assert lease is not None
    store.queue.set_status(lease, JobStatus.QUEUED)
    _, lease = store.queue.claim("tests", [JobStatus.QUEUED], 60) or (None, None)
    assert lease is not None
    store.queue.set_status(lease, JobStatus.RUNNING)
    adapter = settings.paths.jobs / job.id / "final"
    adapter.mkdir(parents=True)
    result = store.blobs.write([b"step,train_loss\n"])
    evaluation = store.blobs.write([json.dumps(found.to_json()).encode() if content is None else content])
    verdict: JsonObject = {
        "verdict": found.verdict,
        "sentence": found.sentences[0],
        "before": found.before,
        "rows": len(found.pairs),
        "forgetting": True,
        "file": evaluation.id,
    }
    outcome = JobOutcome(adapter, trained_tokens=10, result=result, evaluation=evaluation, verdict=verdict, events=[])
    store.queue.finish(lease, outcome)
    return job.id
