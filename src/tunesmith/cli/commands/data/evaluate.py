"""`tunesmith eval`: did the tuning help?"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, BaseUrl, DataDir, named
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.cli.commands.data.asking import Asker
    from tunesmith.client import Client, Job
    from tunesmith.evals.evaluation import Evaluation
    from tunesmith.evals.prompts import Way
    from tunesmith.evals.questions import Question
    from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """The options of `tunesmith eval`."""

    model: Annotated[
        str,
        typer.Argument(
            help="Tuned model, or the job that made it; 'last' for the newest job.",
            metavar="MODEL|JOB",
            show_default=False,
            callback=named,
        ),
    ]
    on: Annotated[
        Path | None,
        typer.Option("--on", help="Chat rows to answer. Default: the job's validation file.", show_default=False),
    ] = None
    against: Annotated[
        str | None, typer.Option(help="The other side. Default: the base of the model.", show_default=False)
    ] = None
    against_answers: Annotated[
        Path | None,
        typer.Option(
            help="Also compare with answers that another model gave earlier: rows with the same questions.",
            show_default=False,
        ),
    ] = None
    forgetting: Annotated[
        bool, typer.Option("--forgetting", help="Also ask general questions that come with Tunesmith.")
    ] = False
    checkpoints: Annotated[
        bool,
        typer.Option("--checkpoints", help="Compare every checkpoint of the job with the base: which is the best?"),
    ] = False
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="LONG.txt",
            help="Compare prompts instead: base and tuned model with this long prompt, the base with examples in the "
            "prompt, the tuned model with the rows' own.",
            show_default=False,
        ),
    ] = None
    price: Annotated[
        str | None, typer.Option(help="With --prompts: the OpenAI model whose prices are used.", show_default=False)
    ] = None
    rows: Annotated[int, typer.Option(min=2, help="Most answers to compare; more are drawn by a fixed seed.")] = 200
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Questions asked at a time.")] = 8
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write every answer to this JSON file.", show_default=False),
    ] = None
    html: Annotated[Path | None, typer.Option(help="Also write a report to this HTML file.", show_default=False)] = None
    as_json: AsJson = False
    base_url: BaseUrl = None
    data_dir: DataDir = None


@takes(EvalOptions)
def evaluate(options: EvalOptions) -> None:
    """Say whether the tuning helped: a model and its base answer the same rows.

    Both answer greedily (temperature 0). Rows that the model was trained on say little: use rows that were held out.
    """
    if options.checkpoints:
        _compare_checkpoints(options)
    elif options.prompts is not None:
        _compare_prompts(options, options.prompts)
    else:
        _compare_models(options)


def _compare_models(options: EvalOptions) -> None:
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.dataset import require_file, require_target
    from tunesmith.cli.output.evaluation import evaluation_html, print_evaluation
    from tunesmith.cli.server.find import connect
    from tunesmith.evals.recorded import read_recorded, with_recorded

    if options.price is not None:
        raise CommandError("--price is for --prompts LONG.txt; leave it out, or give that too.", Exit.USAGE)
    for path in (options.output, options.html):
        require_target(path)
    recorded = {} if options.against_answers is None else read_recorded(require_file(options.against_answers))
    with connect(load_settings(options.data_dir), options.base_url) as connection:
        found = _evaluate(connection.client, options)
    if options.against_answers is not None:
        found = with_recorded(found, recorded, options.against_answers.name)
    if options.output is not None:
        _write(options.output, _as_text(found.to_json()))
    if options.html is not None:
        _write(options.html, evaluation_html(found))
    print_evaluation(found, as_json=options.as_json)


def _compare_checkpoints(options: EvalOptions) -> None:
    from tunesmith.cli.commands.data.asking import Asker
    from tunesmith.cli.commands.data.checkpoints import kept_checkpoints, print_checkpoints
    from tunesmith.cli.commands.data.prompts import check_answers
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.reading_bar import CountingBar
    from tunesmith.cli.output.terminal import note, plural
    from tunesmith.cli.server.find import connect
    from tunesmith.evals.checkpoints import compare_checkpoints
    from tunesmith.evals.questions import sample
    from tunesmith.evals.run import ask_sides

    _check_alone(options)
    with connect(load_settings(options.data_dir), options.base_url) as connection:
        client = connection.client
        model, job = _model_and_job(client, options.model)
        if job is None:
            raise CommandError(f"No job listed here has made {model}: name the job itself.", Exit.USAGE)
        made, before = kept_checkpoints(client, job.id), options.against or job.model
        chosen = sample(_questions(client, options, job), options.rows)
        note(f"Asking {before} and {plural(len(made), 'checkpoint')} for {plural(len(chosen), 'answer')} each.")
        sides = [(name, _as_it_is) for name in (before, *(name for name, _ in made))]
        with CountingBar(len(chosen), "asking") as bar:
            found = ask_sides(Asker(client, options.max_tokens), sides, chosen, options.concurrency, bar)
    check_answers(found)
    compared = compare_checkpoints(before, made, found.questions, found.sides[0], found.sides[1:])
    if options.output is not None:
        _write(options.output, _as_text(compared.to_json()))
    print_checkpoints(compared, as_json=options.as_json)


def _check_alone(options: EvalOptions) -> None:
    """Raises CommandError for options that do not go with --checkpoints."""
    from tunesmith.cli.dataset import require_target

    require_target(options.output)
    given = {
        "--prompts": options.prompts,
        "--against-answers": options.against_answers,
        "--html": options.html,
        "--forgetting": options.forgetting,
    }
    for name, value in given.items():
        if value:
            raise CommandError(f"{name} does not go with --checkpoints: ask for one of the two.", Exit.USAGE)


def _as_it_is(question: "Question") -> "Question":
    return question


def _compare_prompts(options: EvalOptions, file: Path) -> None:
    from tunesmith.cli.commands.data.asking import Asker
    from tunesmith.cli.commands.data.prompts import answers_json, ask_ways, long_prompt, print_ways
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.dataset import require_target
    from tunesmith.cli.output.reading_bar import CountingBar
    from tunesmith.cli.prices import price_book, require_price
    from tunesmith.cli.server.find import connect
    from tunesmith.estimate.prices import DEFAULT_MODEL
    from tunesmith.evals.prompts import compare_ways

    _refuse_without_use(options)
    require_target(options.output)
    settings, long = load_settings(options.data_dir), long_prompt(file)
    price = require_price(options.price or DEFAULT_MODEL, price_book(None, settings))
    with connect(settings, options.base_url) as connection:
        ways, chosen = _ways(connection.client, options, long)
        with CountingBar(len(chosen), "asking in four ways") as bar:
            asked = ask_ways(ways, chosen, Asker(connection.client, options.max_tokens), options.concurrency, bar)
    if options.output is not None:
        _write(options.output, _as_text({"object": "tunesmith.prompts.answers", "rows": answers_json(ways, asked)}))
    print_ways(compare_ways(ways, asked.questions, asked.sides), price, as_json=options.as_json)


def _refuse_without_use(options: EvalOptions) -> None:
    given = {
        "--against-answers": options.against_answers is not None,
        "--forgetting": options.forgetting,
        "--html": options.html is not None,
    }
    if useless := [name for name, is_given in given.items() if is_given]:
        raise CommandError(
            f"{', '.join(useless)}: not with --prompts, which compares prompts and not two models. Run them one after "
            "the other.",
            Exit.USAGE,
        )


def _ways(client: "Client", options: EvalOptions, long: str) -> "tuple[tuple[Way, ...], list[Question]]":
    from tunesmith.evals.prompts import four_ways, shots
    from tunesmith.evals.questions import sample

    model, job = _model_and_job(client, options.model)
    if job is None:
        raise CommandError(f"No job listed here has made {model}: its training file has the examples.", Exit.USAGE)
    chosen = sample(_questions(client, options, job), options.rows)
    examples = shots(_stored_questions(client, job.training_file), chosen)
    return four_ways(options.against or job.model, model, long, examples), chosen


def _evaluate(client: "Client", options: EvalOptions) -> "Evaluation":
    from tunesmith.cli.commands.data.asking import Asker
    from tunesmith.cli.names import naming_models
    from tunesmith.cli.output.reading_bar import CountingBar
    from tunesmith.cli.output.terminal import note, plural
    from tunesmith.evals.questions import sample
    from tunesmith.evals.run import Asking

    model, job = _model_and_job(client, options.model)
    before = options.against or _base_of(model, job)
    questions = _questions(client, options, job)
    chosen = sample(questions, options.rows)
    part = f"{len(chosen):,} of " if len(chosen) < len(questions) else ""
    note(f"Asking {before} and {model} for {part}{plural(len(questions), 'answer')}.")
    with naming_models(client, model):
        client.model(model)
    with naming_models(client, before):
        client.model(before)
    asker = Asker(client, options.max_tokens)
    with CountingBar(len(chosen), "asking") as bar:
        found = Asking(asker, bar, options.concurrency).run(chosen, before, model)
    return _with_forgetting(found, asker, options) if options.forgetting else found


def _with_forgetting(found: "Evaluation", asker: "Asker", options: EvalOptions) -> "Evaluation":
    """The evaluation with the general questions, as many as rows at most."""
    from dataclasses import replace

    from tunesmith.cli.output.reading_bar import CountingBar
    from tunesmith.evals.forgetting import GENERAL_TOKENS, forgetting, general_questions
    from tunesmith.evals.run import Asking

    general = general_questions()[: options.rows]
    with CountingBar(len(general), "asking general questions") as bar:
        pairs = Asking(asker.at_most(GENERAL_TOKENS), bar, options.concurrency).pairs(
            general, found.before, found.after
        )
    sides = [one.before.reply for one in pairs], [one.after.reply for one in pairs]
    return replace(found, forgetting=forgetting([one.question for one in pairs], *sides))


def _model_and_job(client: "Client", name: str) -> "tuple[str, Job | None]":
    """The tuned model that is meant, and the job that made it where the server still lists it."""
    from tunesmith.cli.names import naming_jobs

    if name == "last" or name.startswith("ftjob-"):
        with naming_jobs(client, name):
            job = _newest(client) if name == "last" else client.job(name)
        if job.fine_tuned_model is None:
            raise CommandError(f"Job {job.id} has made no model: it is {job.state}.")
        return job.fine_tuned_model, job
    made_by = (job for job in client.jobs(1000) if job.fine_tuned_model == name)
    return name, next(made_by, None)


def _newest(client: "Client") -> "Job":
    job = next(iter(client.jobs(1)), None)
    if job is None:
        raise CommandError("There are no jobs yet. Make one: tunesmith train FILE")
    return job


def _base_of(model: str, job: "Job | None") -> str:
    if job is not None:
        return job.model
    raise CommandError(f"No job listed here has made {model}; name the other side: --against MODEL", Exit.USAGE)


def _questions(client: "Client", options: EvalOptions, job: "Job | None") -> "list[Question]":
    from tunesmith.cli.dataset import require_file
    from tunesmith.evals.questions import read_questions

    if options.on is not None:
        return read_questions(require_file(options.on))
    if job is None or job.validation_file is None:
        raise CommandError(
            "The job had no validation file. Name rows that it was not trained on: --on FILE", Exit.USAGE
        )
    return _stored_questions(client, job.validation_file)


def _stored_questions(client: "Client", file_id: str) -> "list[Question]":
    """The questions of a file on the server."""
    from tunesmith.evals.questions import read_questions

    with TemporaryDirectory(prefix="tunesmith-eval-") as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("wb") as file:
            for piece in client.content_pieces(file_id):
                file.write(piece)
        return read_questions(path)


def _as_text(value: "JsonObject") -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror or error}.") from error
