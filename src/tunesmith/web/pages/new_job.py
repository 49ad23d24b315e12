"""A new job: its form, what it would be, and its creation through the API."""

from collections.abc import Mapping
from itertools import chain
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tunesmith.api.http.context import Context
from tunesmith.api.new_job import new_job
from tunesmith.check.rules.file_rules import MIN_EXAMPLES
from tunesmith.errors import InvalidRequest
from tunesmith.estimate.prices import DEFAULT_MODEL, OPENAI
from tunesmith.estimate.verdict_time import ENOUGH_ROWS
from tunesmith.families.lora_layers import lora_share
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.moderation.scan_analyser import job_analysers
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.store import NewJob
from tunesmith.web.access.api_call import Refused, path_part
from tunesmith.web.access.visit import Visit, signed_in, web_of
from tunesmith.web.language import language_of, text
from tunesmith.web.looks.ask import ESTIMATE, look
from tunesmith.web.render import render
from tunesmith.web.views.bases import base_folder, base_names
from tunesmith.web.views.job_form import FIELDS, METHODS, OPTIONS, PAIRS, WANDB, field_of, form_of, options, request_of
from tunesmith.web.views.job_plan import Plan, autos, number_warnings, used_options
from tunesmith.wire.body import read
from tunesmith.wire.jobs import CreateJob
from tunesmith.worker.evaluation import demand_rows

MOST_FILES, MOST_MODELS = 200, 100  # to choose from
PRICES = tuple(dict.fromkeys((DEFAULT_MODEL, *(price.model for price in OPENAI.prices if price.training is not None))))


async def new(request: Request) -> Response:
    """The form, empty or filled in.

    `?from=` names an earlier job, `?file=` a training file, `?model=` a model.
    """
    visit = await signed_in(request)
    form = {"model": base_names(visit.settings)[0]}
    if earlier := request.query_params.get("from"):
        form |= form_of(await visit.api.get(f"/v1/fine_tuning/jobs/{path_part(earlier)}"), visit.settings)
    given = {"training_file": request.query_params.get("file"), "model": request.query_params.get("model")}
    return await _form(request, visit, form | {name: value for name, value in given.items() if value}, {})


async def create(request: Request) -> Response:
    """Creates the job; a refusal is shown at its field."""
    visit = await signed_in(request)
    form = await _sent(request)
    try:
        job = await visit.api.post("/v1/fine_tuning/jobs", request_of(form))
    except (Refused, InvalidRequest) as refused:
        faults = {field_of(refused.param, refused.code): refused.message}
        return await _form(request, visit, form, faults, refused.status)
    return RedirectResponse(f"/ui/jobs/{job['id']}", 303)


async def plan(request: Request) -> Response:
    """What the job would be, for the form as it is now."""
    visit = await signed_in(request)
    form = await _sent(request)
    found = await _plan(request, visit, form) if form.get("training_file") else None
    given = {name for name in FIELDS if form.get(name, "").strip() not in ("", "auto")}
    return render(request, "jobs/plan.html", plan=found, fields=FIELDS, given=given)


async def _form(
    request: Request, visit: Visit, form: Mapping[str, str], faults: Mapping[str, str], status: int = 200
) -> Response:
    files = await visit.api.all("/v1/files", MOST_FILES, purpose="fine-tune")
    bases = base_names(visit.settings)
    tuned = await run_in_threadpool(lambda: visit.store.models.page(limit=MOST_MODELS).data)
    return render(
        request,
        "jobs/new.html",
        status=status,
        form={**dict.fromkeys((*FIELDS, *chain(*PAIRS)), ""), "price": _price(form), **form},
        faults=faults,
        files=files,
        bases=bases,
        tuned=[row.name for row in tuned],
        methods=METHODS,
        options=options(visit.settings),
        prices=PRICES,
        most_suffix=visit.settings.max_suffix_chars,
        plan=None,
        pairs=PAIRS,
        more_open=any(form.get(name) or name in faults for name in OPTIONS),
        notes_open=any(form.get(name) or name in faults for name in ("metadata", *WANDB, *chain(*PAIRS))),
    )


async def _plan(request: Request, visit: Visit, form: Mapping[str, str]) -> Plan:
    """Everything that is refused before files are read is refused by the API's own function."""
    context = Context(visit.settings, visit.store, web_of(request).parts.pool, visit.key.project)
    try:
        job = await run_in_threadpool(lambda: new_job(read(CreateJob, request_of(form)), context, visit.key))
    except InvalidRequest as error:
        return Plan({field_of(error.param, error.code): error.message})
    base, notes = await run_in_threadpool(_base, job, visit.settings)
    values, size = await run_in_threadpool(_values, visit, job, _price(form))
    values |= base
    seen = await look(request, ESTIMATE, values, size)
    return _planned(request, job, seen, notes)


def _planned(request: Request, job: NewJob, seen: JsonObject, notes: list[str]) -> Plan:
    say, rate = language_of(request), float(str(job.options["base_learning_rate"]))
    faults = {field_of(str(one["param"])): str(one["message"]) for one in cast(list[JsonObject], seen["refusals"])}
    try:
        demand_rows(job, cast(int, seen["rows"]), MIN_EXAMPLES)
    except InvalidRequest as error:
        faults.setdefault(field_of(error.param), error.message)
    warnings = [*notes]
    if seen["cut"]:
        warnings.append(text(say, "new_job.cut", n=seen["cut"], limit=seen["max_tokens"]))
    if seen["leaks"]:
        warnings.append(text(say, "new_job.leaks", n=seen["leaks"]))
    warnings += [] if faults else _few_rows(say, job, seen)
    if seen["estimate"] is None:
        return Plan(faults, tuple(warnings), used=used_options(job), seen=seen, rate=rate)
    warnings += number_warnings(seen, rate)
    return Plan(faults, tuple(warnings), autos(seen, rate), used_options(job), seen, rate)


def _few_rows(language: str, job: NewJob, seen: JsonObject) -> list[str]:
    """What is said where a verdict would be made on very few rows."""
    count = cast(int | None, seen["verdict_rows"])
    if count is None or count >= ENOUGH_ROWS:
        return []
    which = "new_job.few_validation" if job.validation_file is not None else "new_job.few_held_out"
    return [text(language, which, n=count, rows=seen["rows"], least=ENOUGH_ROWS)]


def _values(visit: Visit, job: NewJob, price: str) -> tuple[JsonObject, int]:
    """What the child needs to know, and the bytes of the files."""
    settings = visit.settings
    method = str(job.method["type"])
    used = {**settings.training_options().model_dump(), **job.options}
    training, size = _file(visit, job.training_file)
    validation, more = (None, 0) if job.validation_file is None else _file(visit, job.validation_file)
    values: JsonObject = {
        "training": training,
        "validation": validation,
        "kept": str(settings.paths.checks.absolute()),
        "analysers": list(job_analysers(settings)),
        "method": method,
        "hyperparameters": job.hyperparameters,
        "price": price,
        "price_file": None if settings.price_file is None else str(settings.price_file.expanduser()),
        "base_name": job.base_model,
        "cache": str(settings.cache_dir),
        "root": str(settings.paths.root),
        "threads": settings.train_threads,
        "ranks": settings.train_ranks,
        "evaluate": job.options.get("evaluate"),
        "options": TrainingOptions.model_validate(used).model_dump(),
    }
    return values, size + more


def _file(visit: Visit, file_id: str) -> tuple[JsonValue, int]:
    row = visit.store.files.get(file_id)
    if row is None:
        raise InvalidRequest(f"No such File object: {file_id}", param="training_file")
    return {"path": str(visit.store.files.local_copy(row.id).absolute()), "sha256": row.sha256}, row.bytes


def _base(job: NewJob, settings: Settings) -> tuple[JsonObject, list[str]]:
    """Where the base is, and what is to be said of it: its weights may still come, and a LoRA may not reach all."""
    try:
        folder, limit = base_folder(job.base_model, settings)
    except InvalidRequest as missing:
        return {"base": None, "max_tokens": None}, [missing.message]
    used = TrainingOptions.model_validate({**settings.training_options().model_dump(), **job.options})
    notice = lora_share(folder, used.target_names).notice if used.adapter == "lora" else None
    return {"base": str(folder.absolute()), "max_tokens": limit}, [] if notice is None else [notice]


def _price(form: Mapping[str, str]) -> str:
    """The model of OpenAI's with whose price the job is compared."""
    chosen = form.get("price", "")
    return chosen if chosen in PRICES else DEFAULT_MODEL


async def _sent(request: Request) -> dict[str, str]:
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


ROUTES = [
    Route("/ui/jobs/new", new, methods=["GET"]),
    Route("/ui/jobs/new", create, methods=["POST"]),
    Route("/ui/jobs/new/plan", plan, methods=["POST"]),
]
