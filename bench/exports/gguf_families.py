"""Has llama.cpp compute tiny random models of each family that is exported as GGUF, beside transformers.

    python bench/exports/gguf_families.py

Each base is written with `tunesmith.export`, in float32. Printed is, of 24 greedy tokens after a prompt, how many are
the same, and the largest difference of their log-probabilities; and for each rule that splits texts, on how many of
the texts below llama.cpp's tokens are those of the base's tokenizer. llama.cpp is that of `bench/exports/exported.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.exports.exported import PYTHON
from tests.export.conftest import quietly, with_adapter, with_tokenizer
from tests.export.test_gguf import FAMILIES, RULES

from tunesmith.export.formats import export
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings

PROMPT = [5, 170, 1000, 60, 8, 310, 900, 42, 77, 120]
TOKENS = 24
TEXTS = (
    "Hello, world! It's 2026; I'll pay $1,234.56.",
    "  two  spaces\n\n\nlines\r\n\ttabs  ",
    "Zürich, naïve café — “quotes” … 今年武汉的冬天冷不冷? Привет! ١٢٣",
    "def f(x):\n    return x**2  # 100%\n",
    "WE'RE don't O'Neill's 12345678901234567890 a1b2c3 __init__",
    "👩‍🔬 emoji 🇩🇪 and zero\u200bwidth",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if not PYTHON.is_file():
        parser.error(f"there is no {PYTHON}: bench/exports/exported.py --help says how to make that environment")
    settings = Settings()
    base_dir = pull(resolve_base("smollm2-135m-instruct", settings), settings)
    table = Table("family", f"equal tokens of {TOKENS}", "largest difference of a log-probability")
    rules = Table("rule", f"equal texts of {len(TEXTS)}")
    with tempfile.TemporaryDirectory(prefix="tunesmith-families-") as folder:
        for number, (name, tiny) in enumerate(FAMILIES.items()):
            place = Path(folder) / str(number)
            table.add_row(name, *compared(with_tokenizer(base_dir, tiny, place / "base"), place))
        for name, rule in RULES.items():
            place = Path(folder) / name
            base = with_tokenizer(base_dir, FAMILIES["qwen3"], place / "base", rule)
            rules.add_row(name, tokenized(base, place))
    Console().print(table, rules)


def compared(base: Path, place: Path) -> tuple[str, str]:
    model = with_adapter(base, place / "adapter")
    file = export(model, "gguf", place / "gguf", quietly).gguf
    merged = AutoModelForCausalLM.from_pretrained(export(model, "safetensors", place / "merged", quietly).folder)
    ids, logprobs = [*PROMPT], []
    with torch.no_grad():
        for _ in range(TOKENS):
            last = torch.log_softmax(merged(input_ids=torch.tensor([ids])).logits[0, -1], -1)
            ids.append(int(last.argmax()))
            logprobs.append(float(last.max()))
    body = {"prompt": PROMPT, "n_predict": TOKENS, "temperature": 0, "n_probs": 1, "ignore_eos": True}
    (answer,) = llamacpp(file, [{"path": "/completion", "body": {**body, "return_tokens": True}}])
    same = next(
        (at for at, (x, y) in enumerate(zip(answer["tokens"], ids[len(PROMPT) :], strict=True)) if x != y), TOKENS
    )
    largest, at = 0.0, 0
    for one in answer["completion_probabilities"]:  # a token that ends no character has no entry
        at = answer["tokens"].index(one["id"], at)
        if at < same:
            largest = max(largest, abs(one["logprob"] - logprobs[at]))
        at += 1
    return str(same), f"{largest:.1e}"


def tokenized(base: Path, place: Path) -> str:
    file = export(with_adapter(base, place / "adapter"), "gguf", place / "gguf", quietly).gguf
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    asked = [{"path": "/tokenize", "body": {"content": text, "add_special": False}} for text in TEXTS]
    found = [one["tokens"] for one in llamacpp(file, asked)]
    wrong = [
        text
        for text, ids in zip(TEXTS, found, strict=True)
        if ids != tokenizer.encode(text, add_special_tokens=False).ids
    ]
    return f"{len(TEXTS) - len(wrong)}{f' (not {wrong})' if wrong else ''}"


def llamacpp(file: Path, requests: list[dict[str, Any]]) -> Any:
    job = {"model": str(file), "threads": 1, "context": 512, "exact": True, "requests": requests}
    helper = [str(PYTHON), str(Path(__file__).with_name("llamacpp_answers.py"))]
    made = subprocess.run(helper, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
