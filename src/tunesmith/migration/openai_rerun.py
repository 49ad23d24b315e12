"""What differs when one of OpenAI's jobs is trained here again.

And the command that does so. Prints nothing.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from tunesmith.jsonvalue import JsonValue
from tunesmith.migration.openai_export import Export, ExportedJob
from tunesmith.wire.limits import MAX_BATCH_SIZE, MAX_EPOCHS

TRAINED = ("supervised", "dpo")
BEYOND_TEXT = (b"image_url", b"input_audio", b"input_image", b'"file"')
MOST = {"n_epochs": MAX_EPOCHS, "batch_size": MAX_BATCH_SIZE}


@dataclass(frozen=True, slots=True)
class Here:
    """What this server has in place of OpenAI's."""

    base: str | None  # what the job's model is an alias of; None: nothing
    default_base: str
    base_learning_rate: float


def differences(job: ExportedJob, here: Here) -> list[str]:
    """Sentences for the user, the gravest first."""
    found = [_model(job, here)]
    if job.method_type not in TRAINED:
        found.append(f"method: {job.method_type} is not trained here ({' and '.join(TRAINED)} are)")
    multiplier = _number(job.numbers.get("learning_rate_multiplier"))
    if multiplier is not None:
        found.append(
            f"learning_rate_multiplier: {multiplier:g} times a rate that OpenAI does not publish; here it multiplies "
            f"{here.base_learning_rate:g} and would give {multiplier * here.base_learning_rate:g}. The command leaves "
            f"it to auto; add --lr-multiplier {multiplier:g} to keep it"
        )
    for name, most in MOST.items():
        value = _number(job.numbers.get(name))
        if value is not None and value > most:
            found.append(f"{name}: {value:g} is more than the {most} that are possible here; the command has {most}")
    if job.fine_tuned_model is not None:
        found.append("name: the new model gets a name of its own; the old name can be given to it later")
    if job.trained_tokens is not None:
        found.append("trained_tokens: OpenAI's tokenizer counted them; here the base's own counts")
    if job.integrations:
        found.append("integrations: metrics are sent where the worker has wandb and a key; else the job says so")
    return found


def obstacle(job: ExportedJob, export: Export) -> str | None:
    """Why there is no command; None when there is one."""
    if not job.finished:
        return "it had not ended when it was exported"
    if job.method_type not in TRAINED:
        return f"the method {job.method_type} is not trained here"
    if export.content(job.training_file) is None:
        return f"the bytes of {job.training_file} were not exported (files/{job.training_file})"
    for file_id in (job.training_file, job.validation_file):
        path = None if file_id is None else export.content(file_id)
        line = None if path is None else _first_line_beyond_text(path)
        if line is not None:
            return (
                f"{path}, line {line}, has an image, sound or a file, and only text is trained here. Remove such rows"
            )
    return None


def _first_line_beyond_text(path: Path) -> int | None:
    """The number of the first row with a content part that is no text; None where all is text."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if any(kind in line for kind in BEYOND_TEXT) and _has_other_part(line):
                return number
    return None


def _has_other_part(line: bytes) -> bool:
    """Whether a message of the row has such a part; the words may also stand in a text."""
    try:
        row = json.loads(line)
    except ValueError:
        return False  # the check tells what is wrong with it
    messages = row.get("messages") if isinstance(row, dict) else None
    contents = (
        [one.get("content") for one in messages or () if isinstance(one, dict)] if isinstance(messages, list) else []
    )
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, dict) and part.get("type") not in ("text", "refusal") for part in parts)


def command(job: ExportedJob, export: Export, here: Here) -> str:
    """The `tunesmith train` command for a shell, where there is no `obstacle`."""
    words = ["tunesmith", "train", str(export.content(job.training_file))]
    words += ["--model", job.model if here.base is not None or job.model.startswith("ft:") else here.default_base]
    validation = None if job.validation_file is None else export.content(job.validation_file)
    if validation is not None:
        words += ["--validation", str(validation)]
    if job.method_type != "supervised":
        words += ["--method", job.method_type]
    for name, option in (("n_epochs", "--epochs"), ("batch_size", "--batch-size"), ("beta", "--beta")):
        value = _number(job.numbers.get(name))
        if value is not None:
            words += [option, f"{min(value, MOST.get(name, value)):g}"]
    if job.user_provided_suffix:
        words += ["--suffix", job.user_provided_suffix]
    if job.seed is not None:
        words += ["--seed", str(job.seed)]
    return shlex.join(words)


def _model(job: ExportedJob, here: Here) -> str:
    if job.model.startswith("ft:"):
        return f"model: {job.model} is a tuned model itself: train its job again first and replace its name"
    if here.base is None:
        return (
            f"model: {job.model} is not an alias of a model here (setting aliases); the command takes "
            f"{here.default_base}. Other weights give other answers"
        )
    return f"model: {job.model} is {here.base} here: other weights give other answers"


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
