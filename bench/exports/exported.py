"""Has llama.cpp answer from exported GGUF files, beside the served model.

    python bench/exports/exported.py [--widths f32 f16 q8_0] [--tokens 64] [--epochs 8]

llama.cpp is the wheel xllamacpp in an environment of its own, as for `bench/serve.py`:

    python -m venv .venvs/llamacpp && .venvs/llamacpp/bin/pip install xllamacpp==2026.10.11549

A server trains a model on the demo's rows (about a minute), `tunesmith export --to ollama` writes it in each width, and
20 prompts are answered greedily three times: by the served model; by llama.cpp with the prompt that the Modelfile's
TEMPLATE makes, its stop texts and its parameters (temperature 0); and by llama.cpp's chat route with the template in
the GGUF file. Where two texts differ, the logits between the two tokens at the first difference are printed, as the
served model has them: "> x" is a token that is not among its 20 likeliest.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.job import run, server

from tunesmith.export.go_template import run_go
from tunesmith.system.cpu import cpu_count

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "examples" / "weather-jokes.jsonl"
PYTHON = ROOT / ".venvs" / "llamacpp" / "bin" / "python"
OTHERS = (
    "Is it sunny in Madrid?",
    "Will there be fog in Lima?",
    "How cold is it in Oslo?",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colours.",
    "今年武汉的冬天冷不冷?",
    "Why do leaves fall in autumn?",
)
CONTEXT = 2048
LIKELIEST = 20

Conversation = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Token:
    spelled: bytes
    logprob: float
    others: dict[bytes, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="*", default=["f32", "f16", "q8_0"])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    prompts = conversations()
    table = Table("file", "prompt by", "equal texts", "the others: same tokens, logits at the first difference")
    with tempfile.TemporaryDirectory(prefix="tunesmith-exported-") as folder:
        data = Path(folder) / "data"
        with server(data) as (process, client):
            _, job_id = run(client, process, ROWS, options.epochs, {"role": "system", "content": "You joke."})
            model = str(client.fine_tuning.jobs.retrieve(job_id).fine_tuned_model)
            served = [served_tokens(client, model, one, options.tokens) for one in prompts]
        for width in options.widths:
            out = exported(model, width, data, Path(folder) / width)
            answers = llamacpp_answers(out, prompts, options.tokens)
            for way, texts in answers.items():
                table.add_row(f"{width}, {(out / 'model.gguf').stat().st_size / 1e6:.0f} MB", way, *row(served, texts))
    Console(width=140).print(table)


def conversations() -> list[Conversation]:
    """The demo's own questions with their system message, and some that it has not seen, without one."""
    rows = [json.loads(line)["messages"] for line in ROWS.read_text("utf-8").splitlines()]
    asked = [tuple((one["role"], one["content"]) for one in row if one["role"] != "assistant") for row in rows]
    return [*asked, *((("user", one),) for one in OTHERS)][:20]


def served_tokens(client: OpenAI, model: str, conversation: Conversation, tokens: int) -> list[Token]:
    messages: Any = [{"role": role, "content": text} for role, text in conversation]
    made = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=tokens, logprobs=True, top_logprobs=LIKELIEST
    )
    entries = made.choices[0].logprobs.content or [] if made.choices[0].logprobs else []
    return [
        Token(bytes(one.bytes or []), one.logprob, {bytes(top.bytes or []): top.logprob for top in one.top_logprobs})
        for one in entries
    ]


def exported(model: str, width: str, data: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "tunesmith.cli", "export", model, "--to", "ollama", "--weights", width]
    subprocess.run([*command, "--no-verify", "--out", str(out), "--data-dir", str(data)], check=True)
    return out


def llamacpp_answers(out: Path, prompts: Sequence[Conversation], tokens: int) -> dict[str, list[str]]:
    modelfile = (out / "Modelfile").read_text("utf-8")
    template = re.findall(r'^TEMPLATE """(.*?)"""$', modelfile, re.MULTILINE | re.DOTALL)[0]
    stops = re.findall(r'^PARAMETER stop "(.*)"$', modelfile, re.MULTILINE)
    given = re.findall(r"^PARAMETER (top_p|top_k|min_p|repeat_penalty) (\S+)$", modelfile, re.MULTILINE)
    sampling = {**{name: float(value) for name, value in given}, "temperature": 0.0, "cache_prompt": False}
    fixed = {"n_predict": tokens, "stop": stops, **sampling}
    by_modelfile = [{"path": "/completion", "body": {"prompt": run_go(template, one), **fixed}} for one in prompts]
    by_jinja = [
        {
            "path": "/v1/chat/completions",
            "body": {
                "messages": [{"role": role, "content": text} for role, text in one], "max_tokens": tokens, **sampling,
            },
        }
        for one in prompts
    ]  # fmt: skip
    model = str((out / "model.gguf").absolute())
    job = {"model": model, "threads": cpu_count(), "context": CONTEXT, "requests": [*by_modelfile, *by_jinja]}
    helper = [str(PYTHON), str(Path(__file__).with_name("llamacpp_answers.py"))]
    made = subprocess.run(helper, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    answers = json.loads(made.stdout.splitlines()[-1])
    return {
        "the Modelfile's TEMPLATE": [one["content"] for one in answers[: len(prompts)]],
        "the GGUF file's template": [one["choices"][0]["message"]["content"] for one in answers[len(prompts) :]],
    }


def row(served: Sequence[Sequence[Token]], texts: Sequence[str]) -> tuple[str, str]:
    differences = [difference(tokens, text.encode()) for tokens, text in zip(served, texts, strict=True)]
    others = [one for one in differences if one is not None]
    return f"{len(differences) - len(others)} of {len(differences)}", "; ".join(others) or "-"


def difference(tokens: Sequence[Token], text: bytes) -> str | None:
    """The number of equal tokens, and the logits between the two that follow; None for equal texts."""
    if b"".join(one.spelled for one in tokens).strip() == text.strip():
        return None
    rest = text
    for number, token in enumerate(tokens):
        if rest.startswith(token.spelled):
            rest = rest[len(token.spelled) :]
            continue
        near = [one for one in token.others if one != token.spelled and one and rest.startswith(one)]
        if not rest:
            near = [one for one in token.others if one.startswith(b"<|")]
        if near:
            return f"{number}: {token.logprob - token.others[max(near, key=len)]:.3f}"
        return f"{number}: > {token.logprob - min(token.others.values()):.1f}"
    return f"{len(tokens)}: it ended there, llama.cpp did not"


if __name__ == "__main__":
    main()
