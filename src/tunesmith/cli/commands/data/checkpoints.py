"""`tunesmith eval JOB --checkpoints`: which checkpoint is the best?"""

from typing import TYPE_CHECKING

from tunesmith.cli.exits import CommandError

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.evals.checkpoints import CheckpointComparison
    from tunesmith.jsonvalue import JsonObject

SHOWN = ("checkpoint", "step", "criterion", "before", "after", "change", "p", "verdict")


def kept_checkpoints(client: "Client", job_id: str) -> list[tuple[str, int]]:
    """(model, step) of each checkpoint that the job has kept.

    CommandError where there is none.
    """
    found = [(one.fine_tuned_model_checkpoint, one.step_number) for one in client.checkpoints(job_id)]
    known = {one.id for one in client.models()}
    kept = [one for one in found if one[0] in known]
    if not kept:
        raise CommandError(f"Job {job_id} has no checkpoints any more: each was deleted, or none was made.")
    return kept


def print_checkpoints(found: "CheckpointComparison", *, as_json: bool) -> None:
    """Prints which is the best, and a table of all."""
    from rich.markup import escape

    from tunesmith.cli.output.evaluation import COLOURS, outcome_row
    from tunesmith.cli.output.terminal import listing, out, print_json

    if as_json:
        print_json(found.to_json())
        return
    colour = COLOURS[found.best.deciding.decision]
    first, *others = found.sentences
    out().print(f"[bold {colour}]{escape(first)}[/]", soft_wrap=True)
    for more in others:
        out().print(escape(more), soft_wrap=True)
    out().print()
    table = listing(*SHOWN, numbers=7)
    for checkpoint in found.checkpoints:
        for one in checkpoint.outcomes:
            row: JsonObject = outcome_row(one)
            numbers = (str(row[name]) for name in ("before", "after", "change", "p", "decision"))
            table.add_row(*map(escape, (checkpoint.model, f"{checkpoint.step:,}", str(row["name"]), *numbers)))
    out().print(table, crop=False)
    out().print("[dim]p is corrected for all criteria of all checkpoints (Holm).[/dim]")
