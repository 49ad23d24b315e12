"""`cosine` by a tiny random BERT in a folder: the same as computed by hand, refused where there is no model."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.graders.grader import read_grader
from tunesmith.graders.results import Record
from tunesmith.graders.runner import Helpers, Messages, Wrote, run
from tunesmith.graders.templates import Variables
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.embeddings.cosine import check_cosine, cosine_of
from tunesmith.serve.embeddings.embedder import Embedder
from tunesmith.serve.embeddings.layout import read_layout
from tunesmith.settings import Settings

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "rain", "sun", "tomorrow", "in", "rome", "##s", "snow")
LONGEST = 12  # tokens
GRADER: JsonObject = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "cosine",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as transformers saves it."""
    path = tmp_path_factory.mktemp("embeddings") / "tiny"
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    marks = [(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(path)
    torch.manual_seed(7)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=LONGEST, **small)
    BertModel(config).save_pretrained(path)
    return path


def by_hand(folder: Path, text: str, *, first: bool = False) -> torch.Tensor:
    """CLS, the words and SEP through the model; the mean of the last layer, or its first row."""
    words = [WORDS.index(word) if word in WORDS else 1 for word in text.split()][: LONGEST - 2]
    with torch.no_grad():
        hidden: torch.Tensor = (
            BertModel.from_pretrained(folder).eval()(torch.tensor([[2, *words, 3]])).last_hidden_state[0]
        )
    return hidden[0] if first else hidden.mean(dim=0)


def angle(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def laid_out(folder: Path, path: Path, pooling: JsonObject, *more: str) -> Path:
    """The same as sentence-transformers saves it."""
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    names = ("Transformer", "Pooling", "Normalize", *more)
    places = ("", "1_Pooling", "2_Normalize", *more)
    modules = [
        {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{name}"}
        for number, (name, place) in enumerate(zip(names, places, strict=True))
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return path


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("rain tomorrow in rome", "snow tomorrow in rome"),
        ("rain", "sun sun sun in rome tomorrow"),
        ("rain " * 40, "sun"),
        ("what", "rain"),
    ],
    ids=["near", "lengths differ", "too long", "unknown words"],
)
def test_cosine_is_that_of_the_mean_embeddings(folder: Path, text: str, reference: str) -> None:
    found = cosine_of(Settings(embedding_model=folder))(text, reference)
    assert found == pytest.approx(angle(by_hand(folder, text), by_hand(folder, reference)), abs=1e-6)


def test_the_same_text_is_one(folder: Path) -> None:
    assert Embedder(folder).cosine("rain in rome", "rain in rome") == pytest.approx(1.0, abs=1e-6)


def test_a_folder_of_sentence_transformers_says_how_it_is_pooled(folder: Path, tmp_path: Path) -> None:
    flags: JsonObject = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": False, "include_prompt": True}
    cls = laid_out(folder, tmp_path / "cls", {**flags, "pooling_mode_cls_token": True})
    (cls / "sentence_bert_config.json").write_text('{"max_seq_length": 4, "do_lower_case": true}')
    first, other = (by_hand(folder, text, first=True) for text in ("rain in", "snow in"))
    assert Embedder(cls).cosine("Rain IN rome", "snow in rome") == pytest.approx(angle(first, other), abs=1e-6)
    mean = laid_out(folder, tmp_path / "mean", {**flags, "pooling_mode_mean_tokens": True})
    assert read_layout(mean).pooling == "mean"


def test_what_cannot_be_used_is_said(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    odd = laid_out(folder, tmp_path / "odd", {"pooling_mode_max_tokens": True})
    dense = laid_out(folder, tmp_path / "dense", {"pooling_mode_mean_tokens": True}, "Dense")
    for path, reason in (
        (empty, "there is no config.json in it"),
        (odd, r"its pooling \(max_tokens\) is neither mean nor cls"),
        (dense, "it has a module Dense, which is not known here"),
    ):
        with pytest.raises(ServerFault, match=reason):
            Embedder(path)
        with pytest.raises(InvalidRequest, match=f"cosine is not available: .*{reason}"):
            check_cosine(read_grader(GRADER), Settings(embedding_model=path))


def test_without_a_model_the_metric_is_refused_by_name() -> None:
    multi: JsonObject = {"type": "multi", "name": "m", "graders": {"near": GRADER}, "calculate_output": "near"}
    for grader, param in ((GRADER, "grader"), (multi, "grader.graders.near")):
        with pytest.raises(InvalidRequest, match="Set embedding_model to the folder of one") as refused:
            check_cosine(read_grader(grader), Settings())
        assert refused.value.param == f"{param}.evaluation_metric"


def test_a_grader_scores_by_it(folder: Path) -> None:
    async def nobody(grader: object, messages: Messages, record: Record) -> Wrote:
        raise AssertionError("no model is asked")

    record = Record()
    helpers = Helpers(nobody, cosine=cosine_of(Settings(embedding_model=folder)))
    variables = Variables("rain in rome", {"answer": "snow in rome"})
    asyncio.run(run(read_grader(GRADER), variables, record, helpers))
    wanted = angle(by_hand(folder, "rain in rome"), by_hand(folder, "snow in rome"))
    assert record.reward == pytest.approx(wanted, abs=1e-6)
    lost = Record()
    asyncio.run(run(read_grader(GRADER), variables, lost, Helpers(nobody)))
    assert "needs an embedding model" in lost.faults["other_error"]
