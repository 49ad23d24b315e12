"""Evals whose runs were done elsewhere: the verdict of a job."""

import json
import time
from dataclasses import replace

from sqlalchemy import Connection, insert

from tunesmith.store.evals.evals import insert_eval
from tunesmith.store.evals.rows import FinishedEval, FinishedRun
from tunesmith.store.evals.runs import insert_run
from tunesmith.store.evals.sums import Sums
from tunesmith.store.schema.eval_tables import eval_items


def insert_finished_eval(connection: Connection, finished: FinishedEval, result_file: str) -> str:
    """Inserts an eval with its runs; returns its id.

    `result_file`: the file that says the same. Whoever deletes that file, or the model, deletes the eval.
    """
    made = insert_eval(connection, finished.new, result_file=result_file)
    for run in finished.runs:
        _insert(connection, made, run)
    return made


def _insert(connection: Connection, eval_id: str, finished: FinishedRun) -> None:
    sums, now = Sums(), int(time.time())
    for _, saved in finished.items:
        sums.add(saved)
    new = replace(finished.new, eval_id=eval_id)
    run_id = insert_run(connection, new, status="completed", total=len(finished.items), **sums.values())
    values = [
        {
            "id": saved.item_id,
            "run_id": run_id,
            "project": new.project,
            "number": number,
            "place": number + 1,
            "item": item,
            "state": saved.state,
            "created_at": now,
            "sample": saved.sample,
            "results": list(saved.results),
            "bytes": len(json.dumps([item, saved.sample, saved.results])),
        }
        for number, (item, saved) in enumerate(finished.items)
    ]
    if values:
        connection.execute(insert(eval_items), values)
