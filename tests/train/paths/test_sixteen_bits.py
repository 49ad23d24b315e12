"""A base in bfloat16: what is summed over tokens and the vocabulary is summed in float32, on every path."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tests.train.conftest import tiny_llama
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import attach
from tunesmith.train.core.examples import Batch, Example
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.objective import Preference, answer_logprobs
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer, Scores, TreeScorer
from tunesmith.train.paths.verify import Disagreement, compare, expect, float32_head

PATHS: list[Callable[[PreTrainedModel], Scorer]] = [PaddedScorer, TreeScorer]
PROMPT = tuple(range(3, 11))


def answer(seed: int) -> TokenRow:
    """Sixty learned tokens: their log-probabilities sum to about -250, where bfloat16 has whole numbers only."""
    ids = torch.randint(3, 61, (60,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenRow((*PROMPT, *ids), (0.0,) * len(PROMPT) + (1.0,) * 60)


def reference(row: TokenRow) -> Tensor:
    """The log-probabilities of a row's learned tokens, of transformers' logits in float32."""
    model = tiny_llama().bfloat16()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].float()
    places = torch.arange(len(PROMPT) - 1, len(row.ids) - 1)
    return torch.log_softmax(logits, -1)[places, torch.tensor(row.ids[len(PROMPT) :])]


@pytest.mark.parametrize("path", PATHS)
def test_log_probabilities_are_those_of_float32_logits(path: Callable[[PreTrainedModel], Scorer]) -> None:
    model = tiny_llama().bfloat16()
    with torch.no_grad():
        scores = path(model).score([answer(0)])
    assert scores.logprobs.dtype == torch.float32
    # Two computations round their logits apart, by up to 1/64 here; summed in 16 bits they are off by 1/16 each.
    torch.testing.assert_close(scores.logprobs.mean(), reference(answer(0)).mean(), rtol=0, atol=4e-3)
    torch.testing.assert_close(scores.row_sums(1), scores.logprobs.sum().unsqueeze(0))


def test_the_reference_paths_values_are_exact() -> None:
    model = tiny_llama().bfloat16()
    with torch.no_grad():
        scores = PaddedScorer(model).score([answer(1)])
    torch.testing.assert_close(scores.logprobs, reference(answer(1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_the_margin_of_a_pair_is_not_rounded_to_whole_numbers(path: Callable[[PreTrainedModel], Scorer]) -> None:
    """Before the first step the answers are as likely as under the reference: the loss is log 2."""
    model = tiny_llama().bfloat16()
    adapter = attach(model, TrainingOptions(lora_rank=4), 0, model.get_output_embeddings())
    pair = Example(1, (answer(2), answer(3)), 120, is_pair=True)
    known = answer_logprobs(path(model), [pair], 4096)
    sums = [float(reference(row).sum()) for row in pair.rows]
    assert known[1] == pytest.approx(sums, abs=0.3)
    assert any(abs(value - round(value)) > 0.05 for value in known[1])  # bfloat16 has only whole numbers there
    result = Preference(path(model), 4096, 0.1, known, {}).backward(Batch(1, 1, True, (pair,)))
    assert result.loss == pytest.approx(0.6931, abs=1e-3)
    assert adapter.grad.abs().sum() > 0


def test_the_check_looks_at_float32_logits_of_both_paths() -> None:
    """Logits of 20 and more: rounded to bfloat16 they alone would differ by up to an eighth."""
    model = tiny_llama().bfloat16()
    torch.manual_seed(0)
    nn.init.normal_(model.lm_head.weight, std=1.0)
    adapter = attach(model, TrainingOptions(lora_rank=4), 0, model.get_output_embeddings())
    rows = [answer(4), answer(5)]
    rounded = expect(PaddedScorer(model), rows, adapter, with_gradient=False)
    with float32_head(model):
        expected = expect(PaddedScorer(model), rows, adapter, with_gradient=False)
        graded = expect(PaddedScorer(model), rows, adapter, with_gradient=True)
    assert "forward" not in vars(model.get_output_embeddings())
    with torch.no_grad():
        mine = TreeScorer(model).score(rows).logprobs
    assert float((mine - expected.logprobs).abs().mean()) < float((mine - rounded.logprobs).abs().mean())
    torch.testing.assert_close(graded.logprobs, expected.logprobs)
    compare(graded, TreeScorer(model), adapter, torch.bfloat16)


class OneTokenLate:
    """A path whose tokens do not see the one before them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.scorer = TreeScorer(model)

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        return self.scorer.score([TokenRow((row.ids[0], *row.ids[:-1]), row.weights) for row in rows])


def test_a_wrong_path_is_found_in_bf16_too() -> None:
    model = tiny_llama().bfloat16()
    adapter = attach(model, TrainingOptions(lora_rank=4), 0, model.get_output_embeddings())
    with float32_head(model):
        expected = expect(PaddedScorer(model), [answer(6)], adapter, with_gradient=False)
    compare(expected, TreeScorer(model), adapter, torch.bfloat16)
    with pytest.raises(Disagreement, match="log-probabilities differ by"):
        compare(expected, OneTokenLate(model), adapter, torch.bfloat16)
