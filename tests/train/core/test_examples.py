"""Rows as examples: several of one row where the base's template rewrites earlier answers."""

import json
from pathlib import Path

import pytest
import torch
from tests.render.bases import VOCABULARY, make_base, starts_text
from tests.train.conftest import tiny_llama
from transformers import AutoTokenizer

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.mask_preview import preview_rows
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.train.core.examples import Batch, Example, Sampler, read_examples
from tunesmith.train.core.packing import pack
from tunesmith.train.objective import Supervised
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import TreeScorer

LAST_DIFFERS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = ("Is it cold in Wuhan today, and will it be cold tomorrow?", "And in Bergen?", "And in Porto?")
ROW = {
    "messages": [
        message
        for question in QUESTIONS
        for message in ({"role": "user", "content": question}, {"role": "assistant", "content": f"Yes: {question}"})
    ]
}


@pytest.fixture(scope="module")
def rewriting(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return load_renderer(make_base(base_dir, tmp_path_factory.mktemp("rewriting") / "base", LAST_DIFFERS))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(ROW) + "\n") * 12, encoding="utf-8")
    return path


def test_each_answer_is_learned_once_and_counted_as_it_is_trained(rewriting: Renderer, rows: Path) -> None:
    examples = read_examples(rows, rewriting, "supervised", None)
    assert [(one.line, len(one.rows)) for one in examples] == [(line, 3) for line in range(1, 13)]
    packed = pack(examples[0].rows, min_shared=1)
    assert packed.length == examples[0].tokens < sum(len(row.ids) for row in examples[0].rows)
    assert len(packed.learned) == examples[0].learned
    learned = [rewriting.decode([part.target for part in packed.learned if part.row == row]) for row in range(3)]
    assert learned == [f"<think>\n\n</think>\n\nYes: {question}" for question in QUESTIONS]


def test_check_and_preview_show_what_is_trained(rewriting: Renderer, rows: Path) -> None:
    examples = read_examples(rows, rewriting, "supervised", None)
    report = check_file(rows, CheckOptions(rewriting))
    assert report.base is not None
    assert report.base.tokens == sum(one.tokens for one in examples)
    assert report.base.learned_tokens == sum(one.learned for one in examples)
    previews = list(preview_rows(rows, rewriting, 1))
    assert [one.title for one in previews] == ["part 1 of 3", "part 2 of 3", "part 3 of 3"]
    shown = ["".join(span.text for span in one.spans if span.learned) for one in previews]
    assert shown == [f"<think>\n\n</think>\n\nYes: {question}<|im_end|>" for question in QUESTIONS]


def test_a_step_learns_from_all_parts_of_a_row(rewriting: Renderer, rows: Path, base_dir: Path) -> None:
    example = read_examples(rows, rewriting, "supervised", None)[0]
    model = tiny_llama(VOCABULARY)
    result = Supervised(PaddedScorer(model), 4096).backward(Batch(1, 1, True, (example,)))
    total = weight = 0.0
    for row in example.rows:
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        weights = torch.tensor(row.weights[1:])
        total -= float((logprobs * weights).sum())
        weight += float(weights.sum())
    assert result.loss == pytest.approx(total / weight, rel=1e-5)
    sampler = Sampler([example], 1, 1, seed=0)
    assert len(list(sampler.answers)) == 3


def test_loss_and_prompt_of_a_base_with_a_start_token_are_transformers(base_dir: Path, tmp_path: Path) -> None:
    """Prompt and completion begin with the token that the tokenizer puts before a text."""
    directory = make_base(
        base_dir,
        tmp_path / "base",
        None,
        special=("<|begin|>",),
        post_processor=starts_text("<|begin|>", VOCABULARY),
        config={"bos_token": "<|begin|>"},
    )
    renderer, tokenizer, model = (
        load_renderer(directory),
        AutoTokenizer.from_pretrained(directory),
        tiny_llama(VOCABULARY + 1),
    )
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "Cold in Wuhan?", "completion": " Yes, very."}) + "\n", encoding="utf-8")
    (example,) = read_examples(file, renderer, "supervised", None)
    prompt = tokenizer("Cold in Wuhan?").input_ids
    ids = torch.tensor([[*tokenizer("Cold in Wuhan? Yes, very.").input_ids, tokenizer.eos_token_id]])
    labels = ids.clone()
    labels[0, : len(prompt)] = -100
    expected = float(model(ids, labels=labels).loss.detach())
    for scorer in (PaddedScorer(model), TreeScorer(model)):
        assert loss_of(Supervised(scorer, 4096), example) == pytest.approx(expected, rel=1e-5)
    assert example.tokens == ids.numel()


def loss_of(objective: Supervised, example: Example) -> float:
    return objective.backward(Batch(1, 1, True, (example,))).loss
