"""From files on this machine to a job.

What can be refused is refused before the upload.
"""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tunesmith.cli.exits import CommandError
from tunesmith.cli.names import did_you_mean, naming_models
from tunesmith.cli.output.terminal import size
from tunesmith.cli.output.waiting import Waiting
from tunesmith.client import Client, Job, ServerRefused
from tunesmith.errors import TunesmithError
from tunesmith.models.given_path import path_instead_of_name

PARAMETER = re.compile(r"'(?:tunesmith|(?:method\.\w+\.)?hyperparameters)\.(\w+)'")
OPTIONS = {  # whose names differ
    "n_epochs": "--epochs",
    "learning_rate_multiplier": "--lr-multiplier",
}
NO_FILE = f"file-{'0' * 24}"  # ids are random; none is this one


def submit(client: Client, request: Mapping[str, object], files: Mapping[str, Path]) -> Job:
    """Creates a job on the files, by the parameters that name them in the request.

    If the server refuses a file or the job, or Ctrl-C ends it, what was uploaded is deleted again.
    """
    uploaded: dict[str, str] = {}
    try:
        for param, path in files.items():
            with Waiting(f"uploading {path.name} ({size(path.stat().st_size)})"):
                file = client.upload(path)
            uploaded[param] = file.id
            if file.status == "error":
                raise CommandError(f"The server refuses {path}: {file.status_details}")
        return client.create_job({**request, **uploaded})
    except BaseException as error:
        for file_id in uploaded.values():
            with suppress(TunesmithError):  # what went wrong first is what the user must know
                client.delete_file(file_id)
        if isinstance(error, ServerRefused):
            raise _naming(error, {uploaded[param]: files[param] for param in uploaded}) from error
        raise


def _naming(refused: ServerRefused, files: Mapping[str, Path]) -> ServerRefused:
    """The refusal with the files' names: nobody has seen the ids, and they are deleted again."""
    message = refused.message
    for file_id, path in files.items():
        message = message.replace(file_id, str(path))
    return ServerRefused(refused.status_code, message, param=refused.param, code=refused.code)


def check_request(client: Client, request: Mapping[str, object]) -> None:
    """Raises what the server would say of the request, before any file is uploaded.

    The request is sent without its file, which the server looks for last: a complaint about the file alone means that
    the rest is right. So the rules are the server's own, with its settings and its models.
    """
    try:
        client.create_job({**request, "training_file": NO_FILE})
    except ServerRefused as refused:
        if refused.param == "training_file":
            return
        if refused.code == "model_not_available":
            name = str(request["model"])
            if (cause := path_instead_of_name(name)) is not None:  # such as `models/mine`, which could be a name
                raise CommandError(cause.message) from refused
            near = did_you_mean(name, [model.id for model in client.models()])
            raise CommandError(f"{refused.message} {near}See: tunesmith models list") from refused
        with naming_models(client, str(request["model"])):
            raise ServerRefused(
                refused.status_code, with_options(refused.message), param=refused.param, code=refused.code
            ) from refused


def with_options(message: str) -> str:
    """A refusal of the server, with options in place of the request's parameters."""
    said = PARAMETER.sub(lambda found: OPTIONS.get(found[1], f"--{found[1].replace('_', '-')}"), message)
    return re.sub(r"^(.*) - (--[\w-]+)$", r"\2: \1", said)  # OpenAI names the parameter last


def check_space(root: Path, files: Mapping[str, Path]) -> None:
    """Raises CommandError where the disk of the server has no room for the files.

    The server is on this machine.
    """
    needed = sum(path.stat().st_size for path in files.values())
    free = shutil.disk_usage(root).free
    if needed > free:
        raise CommandError(
            f"The files take {size(needed)}, and only {size(free)} are free in {root}. Make room there, or choose"
            " another place: --data-dir."
        )
