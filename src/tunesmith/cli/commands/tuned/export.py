"""`tunesmith export MODEL --to FORMAT`: a tuned model for other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from tunesmith.cli.commands.tuned.card import Model
from tunesmith.cli.options import AsJson, BaseUrl, DataDir
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.export.formats import Exported
    from tunesmith.export.verify import Compared, Conversation
    from tunesmith.jsonvalue import JsonObject
    from tunesmith.settings import Settings
    from tunesmith.store import ModelRow, Store

Format = Literal["peft", "safetensors", "gguf", "ollama"]
Weights = Literal["auto", "f32", "f16", "bf16", "q8_0"]
QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colours.",
    "Why do leaves fall in autumn?",
)
FIRST_ROWS = 20  # of the training file, in which questions are looked for
SHOWN = 48  # characters of a question in the table


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `tunesmith export`."""

    model: Model
    to: Annotated[
        Format,
        typer.Option(
            "--to",
            help="peft: the adapter; safetensors: merged weights; gguf: for llama.cpp; ollama: GGUF and a Modelfile.",
            show_default=False,
        ),
    ]
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder. Default: the model's name here.", show_default=False)
    ] = None
    weights: Annotated[
        Weights, typer.Option(help="Numbers of a GGUF file. auto: those of the base; q8_0 is a quarter of f32.")
    ] = "auto"
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare answers with the served model.")] = (
        False
    )
    as_json: AsJson = False
    base_url: BaseUrl = None
    data_dir: DataDir = None


@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write a tuned model for other programs, and compare its answers.

    It reads the model's files, so it runs on the server's machine. The folder appears whole or not at all, for its
    owner alone. Where two answers differ, the logits between the two tokens at the first difference are shown: a small
    number means that both were nearly as likely.
    """
    from tunesmith.cli.commands.tuned.find import find_model, require_this_machine
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.local_store import note as note_deed
    from tunesmith.cli.local_store import open_local_store

    settings = load_settings(options.data_dir)
    require_this_machine(settings, options.base_url, "export")
    with open_local_store(options.data_dir) as store:
        row = find_model(store, options.model)
        exported = _write(settings, row, options, store.models.system_message(row.name))
        note_deed("model.exported", row.name, format=options.to, folder=str(exported.folder.absolute()))
        compared = None if options.no_verify else _verified(settings, exported, _questions(store, row))
    _print(exported, compared, as_json=options.as_json)


def _write(settings: "Settings", row: "ModelRow", options: ExportOptions, system: str | None) -> "Exported":
    from tunesmith.cli.output.terminal import note
    from tunesmith.export.formats import export as export_model
    from tunesmith.export.kinds import folder_name
    from tunesmith.export.tuned_model import open_tuned

    model = open_tuned(row.name, row.base_model, row.adapter_dir, settings)
    target = options.out or Path(folder_name(row.name, options.to))
    return export_model(model, options.to, target, note, width=options.weights, system_message=system)


def _questions(store: "Store", row: "ModelRow") -> "list[Conversation]":
    """Those of the first training rows, if they are still there, else some of everyday life."""
    job = store.jobs.get(row.job_id)
    path = None if job is None else store.files.local_copy(job.training_file)
    found = _first_questions(path) if path is not None and path.is_file() else []
    return found[: len(QUESTIONS)] or [(("user", question),) for question in QUESTIONS]


def _first_questions(path: Path) -> "list[Conversation]":
    from itertools import islice
    from tempfile import TemporaryDirectory

    from tunesmith.errors import TunesmithError
    from tunesmith.evals.questions import read_questions

    with TemporaryDirectory(prefix="tunesmith-export-") as folder:
        first = Path(folder) / "first.jsonl"
        with path.open("rb") as rows:
            first.write_bytes(b"".join(islice(rows, FIRST_ROWS)))
        try:
            read = read_questions(first)
        except TunesmithError:  # rows without answers, such as prompts of reinforcement
            return []
    found: list[Conversation] = []
    for one in read:
        texts = [(message.get("role"), message.get("content")) for message in one.messages]
        if not one.options and all(isinstance(text, str) for _, text in texts):
            found.append(tuple((str(role), str(text)) for role, text in texts))
    return found


def _verified(settings: "Settings", exported: "Exported", questions: "list[Conversation]") -> "list[Compared] | None":
    from functools import partial

    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.server.find import connect
    from tunesmith.client import ServerRefused
    from tunesmith.export.verify import compare

    note("comparing answers with the served model")
    with connect(settings, None) as connection:
        try:
            return compare(exported, questions, partial(_ask, connection.client, exported.model.name))
        except ServerRefused as refused:
            note(f"Not compared: the server does not answer for this model ({refused.message})")
            return None


def _ask(client: "Client", model: str, question: "Conversation") -> tuple[bytes, ...]:
    from tunesmith.export.verify import MOST_TOKENS

    body = {
        "model": model,
        "messages": [{"role": role, "content": text} for role, text in question],
        "temperature": 0,
        "max_completion_tokens": MOST_TOKENS,
        "logprobs": True,
    }
    choice = cast("list[JsonObject]", client.complete(body)["choices"])[0]
    entries = cast("list[dict[str, list[int]]]", cast("JsonObject", choice["logprobs"])["content"])
    return tuple(bytes(entry["bytes"]) for entry in entries)


def _print(exported: "Exported", compared: "list[Compared] | None", *, as_json: bool) -> None:
    from rich.markup import escape

    from tunesmith.cli.output.terminal import listing, print_json, print_plain, print_table
    from tunesmith.system.atomic_write import sha256_of

    if as_json:
        files = [
            {"name": str(one.relative_to(exported.folder)), "bytes": one.stat().st_size, "sha256": sha256_of(one)}
            for one in exported.files
        ]
        answers = None if compared is None else [_answer(one) for one in compared]
        where = {"model": exported.model.name, "format": exported.kind, "folder": str(exported.folder)}
        print_json({**where, "files": files, "answers": answers})
        return
    print_plain(f"{exported.model.name} is in {exported.folder}:")
    for one in exported.files:
        print_plain(f"  {one.relative_to(exported.folder)}  {one.stat().st_size:,} bytes")
    if compared:
        table = listing("question", "answer beside the served model's", "logits between the two tokens")
        for pair in compared:
            table.add_row(escape(pair.question[:SHOWN]), *_cells(pair))
        print_table(table)


def _cells(pair: "Compared") -> tuple[str, str]:
    from tunesmith.cli.output.terminal import plural

    if pair.margin is None:
        return "equal", "-"
    return f"differs after {plural(pair.same_tokens, 'token')}", f"{pair.margin:.3f}"


def _answer(pair: "Compared") -> "JsonObject":
    return {
        "question": pair.question,
        "served": pair.served,
        "exported": pair.exported,
        "equal": pair.equal,
        "same_tokens": pair.same_tokens,
        "margin": pair.margin,
    }
