"""`tunesmith models check`: what a base is like here."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import AsJson, DataDir, named

if TYPE_CHECKING:
    from tunesmith.check.report.mask_preview import Preview
    from tunesmith.jsonvalue import JsonObject
    from tunesmith.models.registry import BaseModel
    from tunesmith.render.renderer import Renderer
    from tunesmith.settings import Settings

SAMPLE: "JsonObject" = {
    "messages": [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And of Italy?"},
        {"role": "assistant", "content": "Rome."},
    ]
}
TOKENS = 16  # of the answer


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was found: label -> text, and the sample conversation as training sees it."""

    values: dict[str, str]
    previews: "tuple[Preview, ...]"


def check(
    name: Annotated[
        str | None,
        typer.Argument(help="Base model or alias; the default base if omitted.", metavar="MODEL", callback=named),
    ] = None,
    answer: Annotated[bool, typer.Option(help="Load the base and let it answer a question.")] = True,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show how a base is trained and served here, its template and an answer.

    A conversation is shown with the text that training would learn.
    """
    from rich.markup import escape

    from tunesmith.cli.bases import base_here
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.mask import print_mask
    from tunesmith.cli.output.terminal import facts, print_json, print_table

    settings = load_settings(data_dir)
    base = base_here(name, settings)
    checked = _checked(base, settings, answer)
    if as_json:
        mask = [[{"learned": span.learned, "text": span.text} for span in one.spans] for one in checked.previews]
        print_json({"model": base.name, **checked.values, "mask": mask})
        return
    print_table(facts({label: escape(text) for label, text in checked.values.items()}))
    print_mask(checked.previews)


def _checked(base: "BaseModel", settings: "Settings", answer: bool) -> _Checked:
    from tunesmith.check.report.mask_preview import preview_row
    from tunesmith.cli.commands.models.look import of_directory
    from tunesmith.cli.output.waiting import Waiting
    from tunesmith.models.directory import context_length, materialise
    from tunesmith.models.facts import base_facts
    from tunesmith.render.renderer import load_renderer
    from tunesmith.rows.row import parse_row
    from tunesmith.system import activity

    with Waiting(f"preparing {base.name}", activity.here):
        directory = materialise(base, settings)
        renderer, found = load_renderer(directory), of_directory(directory)
    values = {
        "base": f"{base.name} ({base_facts(base, settings).weights})",
        "size": f"{(found.parameters or 0) / 1e6:,.0f} million parameters",
        "context": f"{context_length(directory):,} tokens",
        "template": _template(renderer),
        "special tokens": _tokens(directory, renderer),
        **_paths(directory),
        "memory": found.verdict(),
    }
    if answer:
        with Waiting(f"loading {base.name}", activity.here):
            values |= _answer(base, directory, settings)
    return _Checked(values, tuple(preview_row(1, parse_row(SAMPLE), renderer)))


def _template(renderer: "Renderer") -> str:
    fault = renderer.chat_fault
    if fault is not None:
        return f"chats are refused: {fault.message}"
    more = "takes variables" if renderer.takes_variables else "no variables"
    thinks = "thinking is read" if renderer.reads_reasoning else "no thinking"
    return f"chats are written by {renderer.name} ({thinks}; {more})"


def _tokens(directory: Path, renderer: "Renderer") -> str:
    from tunesmith.render.chat_template import read_object, special_tokens

    named = special_tokens(read_object(directory / "tokenizer_config.json"))
    shown = [f"{name.removesuffix('_token')} {text}" for name, text in named.items()]
    ends = sorted({renderer.token_text(token) for token in renderer.eos_ids})
    return f"{', '.join(shown) or 'none named'}; an answer ends with {' or '.join(ends) or 'its length'}"


def _paths(directory: Path) -> dict[str, str]:
    """Which path trains and serves the base, and why, by its config."""
    from transformers import AutoConfig

    from tunesmith.families.lora_layers import lora_share, percent
    from tunesmith.families.support import is_recurrent
    from tunesmith.families.table import FAMILIES, STAND_INS, compiled_gap

    whole = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    config = whole.get_text_config()
    family = FAMILIES.get(STAND_INS.get(config.model_type, config.model_type))
    share = lora_share(directory, ["all-linear"])
    if is_recurrent(config.to_dict()):
        trains = "padded rows: some layers keep a state, so rows share nothing"
    else:
        gap = compiled_gap(config, "training")
        trains = f"the base's own modules: {gap}" if gap else "compiled code on a CPU, once a run is long enough to pay"
    gap = compiled_gap(config, "serving")
    return {
        "family": family.title if family else f"{config.model_type}, which our tests do not cover",
        "trained by": f"{trains}; a LoRA reaches {percent(share.adapted / share.total)} of the layers",
        "served by": f"the base's own modules, one at a time: {gap}" if gap else "compiled code, many at once",
    }


def _answer(base: "BaseModel", directory: Path, settings: "Settings") -> dict[str, str]:
    """The start of a greedy answer, and the memory that this process took at most."""
    import logging

    from tunesmith.serve.engine.protocol import GenerateRequest
    from tunesmith.serve.pool import Pool
    from tunesmith.system.log import configure_log
    from tunesmith.system.memory import peak_resident

    configure_log(logging.INFO)  # to stderr: stdout is for what was found
    pool = Pool(settings)
    try:
        loaded = pool.open(directory, base_name=base.name)
        renderer = loaded.renderer
        asked, question = _question(renderer)
        request = GenerateRequest(tuple(asked), TOKENS, renderer.eos_ids, temperature=0)
        ids = [delta.token for delta in loaded.engine.submit(request)]
    finally:
        pool.close()
    return {
        "answers": f"{question} → {renderer.decode(ids)!r}",
        "memory taken": f"{peak_resident() / 1e9:.1f} GB to answer it",
    }


def _question(renderer: "Renderer") -> tuple[list[int], str]:
    """The prompt, and the question in it; a base that cannot chat goes on with the text."""
    from tunesmith.rows.row import ChatRow, parse_row

    row = parse_row(SAMPLE)
    assert isinstance(row, ChatRow)  # noqa: S101 - tells the type checker
    question = str(row.messages[1].content)
    return renderer.prompt(row.messages[:2]) if renderer.chat_fault is None else renderer.text_prompt(
        question
    ), question
