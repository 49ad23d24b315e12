"""`tunesmith replay`: a teacher's answers as rows to train on."""

import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, DataDir
from tunesmith.cli.prices import PriceFile, price_book
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.cli.output.replay_views import ReplayBar
    from tunesmith.estimate.prices import Price
    from tunesmith.jsonvalue import JsonObject
    from tunesmith.replay.journal import Journal
    from tunesmith.replay.run import Cost, Plan, Progress, Written
    from tunesmith.replay.upstream import Address

SAMPLING = "Sent to the teacher"
OWN_FIELDS = {"model", "messages", "stream", "n", "tools", "functions", "max_tokens", "max_completion_tokens"}
SHOWN_SECONDS = 1.0
MOST_TOKENS = 4096  # reserved for an answer whose length nothing else bounds


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is sent with every row; the teacher's own default where nothing is given."""

    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="Temperature.", show_default=False, rich_help_panel=SAMPLING)
    ] = None
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Top p.", show_default=False, rich_help_panel=SAMPLING)
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Most tokens of an answer.", show_default=False, rich_help_panel=SAMPLING),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default=False, rich_help_panel=SAMPLING)] = None
    extra: Annotated[
        str | None,
        typer.Option(
            help="""More of the request's body, as JSON: '{"reasoning_effort": "low"}'.""",
            show_default=False,
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The options of `tunesmith replay`."""

    file: Annotated[
        Path,
        typer.Argument(
            help='Chat rows, or prompts without answers: {"messages": […]} or {"prompt": "…"} a line.',
            metavar="FILE",
            show_default=False,
        ),
    ]
    parameters: Parameters
    teacher: Annotated[
        str, typer.Option(help="The model to ask, e.g. ft:gpt-4o-mini-2024-07-18:acme::B1.", show_default=False)
    ]
    upstream: Annotated[str, typer.Option(help="Address of the OpenAI-compatible server.")] = (
        "https://api.openai.com/v1"
    )
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The rows; FILE.replay.jsonl unless named.", show_default=False),
    ] = None
    key_env: Annotated[
        str, typer.Option(help="Environment variable with the upstream's API key; the key is written nowhere.")
    ] = "OPENAI_API_KEY"
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Rows asked at a time.")] = 8
    timeout: Annotated[float, typer.Option(min=1, help="Seconds without a byte before a row is asked again.")] = 120
    max_cost: Annotated[
        float | None,
        typer.Option(min=0, help="Stop before more dollars than this may be spent.", show_default=False),
    ] = None
    price_file: PriceFile = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Ask the good rows of a file that has bad ones.")] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew: forget the output and the answers kept for it.")
    ] = False
    as_json: AsJson = False
    data_dir: DataDir = None


@takes(ReplayOptions)
def replay(options: ReplayOptions) -> None:
    """Ask a teacher for the answers to a file's rows, and write rows to train on.

    Each row carries where its answer came from. After a kill or a limit the same command goes on where it was.
    """
    from tunesmith.cli.output.replay_views import say_terms
    from tunesmith.replay.journal import Asked, Journal

    output = options.output or options.file.with_name(f"{options.file.stem}.replay.jsonl")
    address = _address(options)
    plan = _plan(options, address)
    kept = _journal_path(output, overwrite=options.overwrite)
    total = _require_questions(options)
    with Journal(kept, Asked(options.teacher, address.host, plan.parameters)) as journal:
        if journal.is_new:
            say_terms(address.host)
        _run(options, plan, address, journal, output, total)


def _run(
    options: ReplayOptions, plan: "Plan", address: "Address", journal: "Journal", output: Path, total: int
) -> None:
    import asyncio

    from tunesmith.cli.output.replay_views import ReplayBar, print_written
    from tunesmith.errors import TunesmithError
    from tunesmith.replay.run import write_rows

    stopped: TunesmithError | None = None
    with ReplayBar(total) as bar:
        try:
            progress = asyncio.run(_ask(plan, journal, address, bar))
        except TunesmithError as error:
            stopped = error
    written = write_rows(plan.file, journal, output)
    print_written(written, output, journal.spent if plan.cost else None, as_json=options.as_json)
    if stopped is not None:
        raise stopped
    _require_all(written, options.max_cost if progress.capped else None)


def _require_all(written: "Written", cap: float | None) -> None:
    """Raises CommandError where rows are missing.

    `cap`: that of the costs, where it was reached.
    """
    from tunesmith.cli.output.terminal import plural
    from tunesmith.estimate.prices import dollars

    if cap is not None:
        left = f"{plural(written.missing, 'row')} {'is' if written.missing == 1 else 'are'}"
        raise CommandError(
            f"The cap of {dollars(cap)} is reached: {left} not asked yet. "
            "The same command with a larger --max-cost goes on."
        )
    if written.missing:
        raise CommandError("Stopped; the same command goes on from there.", Exit.INTERRUPTED)
    if written.refused:
        raise CommandError(f"{plural(len(written.refused), 'row')} without an answer to learn, as listed above.")


async def _ask(plan: "Plan", journal: "Journal", address: "Address", bar: "ReplayBar") -> "Progress":
    import asyncio

    from tunesmith.replay.run import Replay
    from tunesmith.replay.upstream import Upstream

    run = Replay(plan, journal, Upstream(address), bar)
    task = asyncio.ensure_future(run.run())

    def stop() -> None:  # the second time, without waiting for the answers under way
        loop.remove_signal_handler(signal.SIGINT)
        bar.stopping()
        run.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    while not (await asyncio.wait({task}, timeout=SHOWN_SECONDS))[0]:
        bar(run.progress)  # also while no answer comes
    task.result()
    return run.progress


def _address(options: ReplayOptions) -> "Address":
    from urllib.parse import urlsplit

    from tunesmith.replay.upstream import Address

    url = options.upstream.strip().rstrip("/")
    url = url if "://" in url else f"http://{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"--upstream {options.upstream!r} is no http or https address.", Exit.USAGE)
    if parts.username or parts.password or parts.query:
        raise CommandError("--upstream may hold no password or query; the key comes from the environment.", Exit.USAGE)
    key = os.environ.get(options.key_env, "").strip() or None
    is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if key is None and not is_here:
        raise CommandError(
            f"There is no API key for {parts.hostname}: set the environment variable {options.key_env}, "
            "or name another with --key-env.",
            Exit.NO_KEY,
        )
    if key is not None and not key.isascii():
        raise CommandError(f"The key in {options.key_env} has characters that no key has.", Exit.NO_KEY)
    if key is not None and parts.scheme == "http" and not is_here:
        raise CommandError("The key would travel in the clear: name an https address.", Exit.USAGE)
    url = url if parts.path.strip("/") else f"{url}/v1"
    return Address(url, key, options.key_env, options.timeout)


def _plan(options: ReplayOptions, address: "Address") -> "Plan":
    from tunesmith.replay.run import Plan
    from tunesmith.tokens import encoding_for

    price = _price(options)
    if options.max_cost is not None and price is None:
        raise CommandError(
            f"There is no price for {options.teacher!r}, so --max-cost cannot be held. "
            "Give its prices with --price-file.",
            Exit.USAGE,
        )
    return Plan(
        file=_require_other(options),
        teacher=options.teacher,
        parameters=_parameters(options, address),
        encoding=encoding_for(options.teacher),
        most_tokens=options.parameters.max_tokens or MOST_TOKENS,
        cost=None if price is None else _cost(price),
        cap=options.max_cost,
        concurrency=options.concurrency,
    )


def _require_other(options: ReplayOptions) -> Path:
    from tunesmith.cli.dataset import require_file, require_target

    file = require_file(options.file)
    require_target(options.output)
    if options.output is not None and options.output.exists() and options.output.samefile(file):
        raise CommandError("--output is the file itself; name another.", Exit.USAGE)
    return file


def _parameters(options: ReplayOptions, address: "Address") -> "JsonObject":
    """The parameters under the names that the upstream reads."""
    import json

    from tunesmith.rows.json_faults import document_fault

    given = options.parameters
    most = given.max_tokens
    if most is None and options.max_cost is not None:
        most = MOST_TOKENS  # a cap on the cost needs a cap on the answer
    # OpenAI's newer models refuse `max_tokens`; other servers often know only that.
    name = "max_completion_tokens" if address.host.endswith("openai.com") else "max_tokens"
    values = {"temperature": given.temperature, "top_p": given.top_p, name: most, "seed": given.seed}
    try:
        extra = json.loads(given.extra or "{}")
    except json.JSONDecodeError as error:
        raise CommandError(f"--extra is not JSON: {document_fault(given.extra or '', error)}.", Exit.USAGE) from None
    if not isinstance(extra, dict):
        raise CommandError("--extra is not a JSON object.", Exit.USAGE)
    if wrong := extra.keys() & OWN_FIELDS:
        raise CommandError(
            f"--extra cannot set {sorted(wrong)[0]!r}: replay does, or has an option for it.", Exit.USAGE
        )
    return {**{key: value for key, value in values.items() if value is not None}, **extra}


def _price(options: ReplayOptions) -> "Price | None":
    from tunesmith.cli.configure import load_settings

    price = price_book(options.price_file, load_settings(options.data_dir)).find(options.teacher)
    return None if price is None or price.input is None or price.output is None else price


def _cost(price: "Price") -> "Cost":
    """Tuned models' prices; a plain model costs no more."""
    from tunesmith.estimate.prices import answer_cost

    def cost(prompt: int, cached: int, completion: int) -> float:
        return answer_cost(price, prompt, completion, cached_tokens=cached) or 0.0

    return cost


def _journal_path(output: Path, *, overwrite: bool) -> Path:
    journal = output.with_name(f"{output.name}.journal")
    if overwrite:
        output.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
    elif output.exists() and not journal.exists():
        raise CommandError(f"{output} exists and is not from a replay; name another --output, or --overwrite it.")
    return journal


def _require_questions(options: ReplayOptions) -> int:
    """How many rows can be asked; nothing is asked of a file with rows that cannot, unless `--skip-bad`."""
    from tunesmith.cli.output.terminal import plural, warn
    from tunesmith.replay.questions import Question, read_questions

    bad, total, dropped = [], 0, Counter[str]()
    for one in read_questions(options.file):
        if isinstance(one, Question):
            total += 1
            dropped.update(one.dropped)
        else:
            bad.append(f"line {one.line}: {one.message}")
    if bad:
        shown = "; ".join(bad[:5]) + ("; …" if len(bad) > 5 else "")
        text = f"{plural(len(bad), 'row')} of {options.file.name} cannot be asked: {shown}"
        if not options.skip_bad:
            raise CommandError(f"{text} `tunesmith fix` may mend them; --skip-bad asks the others. Nothing was asked.")
        warn(text)
    if not total:
        raise CommandError(f"{options.file} has no rows to ask.")
    for key, count in dropped.items():
        warn(f"{key!r} has no place in a chat row; it is left out of {plural(count, 'row')}.")
    return total
