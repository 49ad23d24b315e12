"""Finds a tuned model in the data directory, by its name or its job's."""

from typing import TYPE_CHECKING

from tunesmith.cli.exits import CommandError

if TYPE_CHECKING:
    from tunesmith.settings import Settings
    from tunesmith.store import ModelRow, Store


def find_model(store: "Store", name: str) -> "ModelRow":
    """The model `name`, the one that the job `name` made, or the newest: 'last'.

    Raises CommandError where there is none, or where it has no weights here.
    """
    from tunesmith.cli.names import did_you_mean, nothing_called

    listed = [one for one in store.models.all() if one.name.startswith("ft:")]
    if name == "last":
        made = [one for one in listed if ":ckpt-step-" not in one.name]
        if not made:
            raise CommandError("There are no tuned models yet. Make one: tunesmith train FILE")
        name = max(made, key=lambda one: one.created_at).name
    elif name.startswith("ftjob-"):
        name = _of_job(store, name)
    row = store.models.get(name)
    if row is None:
        raise CommandError(nothing_called("model", name, did_you_mean(name, [one.name for one in listed])))
    store.models.fetch(row)  # says what is to be done about a model without weights
    return row


def _of_job(store: "Store", job_id: str) -> str:
    from tunesmith.cli.names import nothing_called

    job = store.jobs.get(job_id)
    if job is None:
        raise CommandError(nothing_called("job", job_id))
    if job.fine_tuned_model is None:
        raise CommandError(f"Job {job_id} has made no model: it is {job.status}.")
    return job.fine_tuned_model


def require_this_machine(settings: "Settings", base_url: str | None, command: str) -> None:
    """Raises CommandError where another machine's server was meant.

    These commands read a model's files.
    """
    from tunesmith.cli.exits import Exit
    from tunesmith.cli.server.find import full_url, running_server

    if base_url is None:
        return
    running = running_server(settings)
    here = None if running is None else running.base_url.rstrip("/").removesuffix("/v1")
    if full_url(base_url).rstrip("/").removesuffix("/v1") != here:
        raise CommandError(
            f"`tunesmith {command}` reads the files of a model, which the API does not hand out: run it on the machine"
            f" of the server at {base_url}, with its --data-dir and without --base-url (or TUNESMITH_BASE_URL).",
            Exit.USAGE,
        )
