"""A request for a job, checked whole and turned into what is stored.

Nothing is written. What only reading the files can tell is left to the worker.
"""

import random
import re

from tunesmith.api.http.context import Context
from tunesmith.api.middleware.body_limits import check_metadata, check_suffix
from tunesmith.api.training_options import requested_evaluation, requested_resources, resolve_options
from tunesmith.check.rules.file_rules import TRAINED_METHODS
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.adapters import CONFIG_FILE as ADAPTER_CONFIG
from tunesmith.models.adapters import AdapterManifest, read_manifest
from tunesmith.models.directory import check_usable, is_present, present_directory
from tunesmith.models.options_check import check_options, check_remote_rank
from tunesmith.models.registry import resolve_base
from tunesmith.render.chat_template import chat_fault
from tunesmith.rows.row import first_kind
from tunesmith.settings import TrainingOptions
from tunesmith.store import KeyRow, NewJob
from tunesmith.wire.jobs import (
    MAX_SEED,
    CreateJob,
    Hyperparameters,
    Integration,
    Method,
    PreferenceHyperparameters,
)

FILE_ID_SHAPE = re.compile(r"file-[0-9A-Za-z_-]+")


def new_job(request: CreateJob, context: Context, key: KeyRow) -> NewJob:
    """The job that a request asks for.

    Raises InvalidRequest, whose `param` is the field that is wrong.
    """
    check_suffix(request.suffix, context.settings)
    check_metadata(request.metadata, context.settings)
    method, hyperparameters = _method(request)
    model, base, parent = _model(context, request.model)
    options, others = _options(request, context, base, parent)
    _check_options(context, options, base, parent)
    _require_files(context, base, request)
    return NewJob(
        model=model,
        base_model=base,
        training_file=request.training_file,
        validation_file=request.validation_file,
        organization=context.settings.organization,
        suffix=request.suffix,
        seed=random.randint(0, MAX_SEED) if request.seed is None else request.seed,
        hyperparameters=hyperparameters,
        method={"type": method, method: {"hyperparameters": hyperparameters}},
        integrations=tuple(_integration(one) for one in request.integrations or ()),
        metadata=request.metadata,
        project=key.project,
        key_id=key.id,
        options={**options, **others},
    )


def _method(request: CreateJob) -> tuple[str, JsonObject]:
    """The method's name and its hyperparameters, from the new place (`method`), the old one, or both together."""
    method = request.method or Method(type="supervised")
    if method.type not in TRAINED_METHODS:
        raise InvalidRequest(
            f"The method '{method.type}' is not available here. This server trains: {', '.join(TRAINED_METHODS)}.",
            param="method.type",
            code="method_not_available",
        )
    new, old = method.hyperparameters(), request.hyperparameters
    given = {} if old is None else old.model_dump(exclude_unset=True)
    for name, value in ({} if new is None else new.model_dump(exclude_unset=True)).items():
        if given.setdefault(name, value) != value:
            raise InvalidRequest(
                f"'hyperparameters.{name}' is {given[name]!r} and 'method.{method.type}.hyperparameters.{name}' is "
                f"{value!r}: they differ; give one of them.",
                param=f"hyperparameters.{name}",
            )
    shape = PreferenceHyperparameters if method.type == "dpo" else Hyperparameters
    return method.type, shape(**given).model_dump()


def _options(
    request: CreateJob, context: Context, base: str, parent: AdapterManifest | None
) -> tuple[JsonObject, JsonObject]:
    """All training options of the job, and those that do not decide its result."""
    given = request.tunesmith.given() if request.tunesmith else {}
    others = requested_evaluation(given, request.validation_file)
    others |= requested_resources(given, context.settings, base)
    return resolve_options(given, context.settings, parent), others


def _check_options(context: Context, options: JsonObject, base: str, parent: AdapterManifest | None) -> None:
    """Raises InvalidRequest for options that the base or this machine does not have."""
    directory = present_directory(resolve_base(base, context.settings), context.settings)
    used = TrainingOptions.model_validate({**context.settings.training_options().model_dump(), **options})
    check_options(used, directory, base, parent, here=context.settings.launcher == "child")
    check_remote_rank(used, base, context.settings)


def _require_files(context: Context, base: str, request: CreateJob) -> None:
    """Raises InvalidRequest for a file that is not there, or that the base's directory shows to be of no use.

    A base without a chat template cannot be trained on chats. One that is not here yet is looked at when it is.
    """
    _require_file(context, "training_file", request.training_file)
    if request.validation_file is not None:
        _require_file(context, "validation_file", request.validation_file)
    model = resolve_base(base, context.settings)
    directory = present_directory(model, context.settings) if is_present(model, context.settings) else None
    fault = None if directory is None else chat_fault(directory)
    if fault is None:
        return
    for param, file_id in (("training_file", request.training_file), ("validation_file", request.validation_file)):
        kind = None if file_id is None else first_kind(context.store.files.local_copy(file_id))
        if kind not in (None, "completion"):
            raise InvalidRequest(f"invalid {param}: {file_id} holds {kind} rows. {fault.message}", param=param)


def _integration(requested: Integration) -> JsonObject:
    wandb = requested.wandb
    tags: list[JsonValue] = [*wandb.tags]
    shown: JsonObject = {"project": wandb.project, "name": wandb.name, "entity": wandb.entity, "tags": tags}
    return {"type": requested.type, "wandb": shown}


def _model(context: Context, name: str) -> tuple[str, str, AdapterManifest | None]:
    """The model as the job shows it, the base below it, and the adapter that is trained further if it has one.

    An alias is resolved, and a base that cannot be trained refused. A tuned model whose adapter has just gone is left
    to the worker to report.
    """
    tuned = context.store.models.resolve(name)
    kept = context.store.aliases.all
    base_model = resolve_base(name if tuned is None else tuned.base_model, context.settings, kept)
    check_usable(base_model, context.settings)
    base = base_model.name
    if tuned is None:
        return base, base, None
    if tuned.adapter_dir is None or not (tuned.adapter_dir / ADAPTER_CONFIG).is_file():
        return tuned.name, base, None
    return tuned.name, base, read_manifest(tuned.adapter_dir)


def _require_file(context: Context, param: str, file_id: str) -> None:
    """OpenAI's recorded words, then what is wrong and how to fix it."""
    if not FILE_ID_SHAPE.fullmatch(file_id):
        reason = f"Invalid File Name ({file_id!r} is not a file id; ids look like file-abc123)"
    elif (row := context.store.files.get(file_id)) is None:
        reason = f"{file_id} (there is no such file; upload it first, with purpose 'fine-tune')"
    elif row.purpose != "fine-tune":
        reason = f"{file_id} (its purpose is '{row.purpose}'; upload it again with purpose 'fine-tune')"
    else:
        return
    raise InvalidRequest(f"invalid {param}: {reason}", param=param)
