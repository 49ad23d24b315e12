"""Families whose layers differ from Llama's, served as compiled code: what transformers computes, many at once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.families.zoo import LONGROPE, VOCABULARY, ZOO, Tiny, build
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.local.engine import EngineOptions, LocalEngine
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.serve.local.torch_weights import supports, weights_of

FAMILIES = [
    "smollm3", "mistral 0.1", "ministral", "phi3", "phi4-mini", "gemma", "gemma2", "gemma3_text", "olmo2", "olmo3",
    "granite", "glm", "glm4", "exaone4", "ernie4_5", "seed_oss",
]  # fmt: skip
NEW, ALPHA = 64, 8.0
RANKS = (4, 9)  # of two adapters
BORDER = "original_max_position_embeddings"
OPTIONS = EngineOptions(threads=1, running=6, waiting=9, adapter_bytes=10**8, cache_bytes=10**8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def text(length: int, step: int = 7) -> tuple[int, ...]:
    return tuple(3 + (step * place * place + place) % (VOCABULARY - 3) for place in range(length))


def updates(model: nn.Module, rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Random a and b for every linear of the layers."""
    draw = torch.Generator().manual_seed(rank)
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {
        path: (
            0.3 * torch.randn(rank, linear.in_features, generator=draw),
            0.1 * torch.randn(linear.out_features, rank, generator=draw),
        )
        for path, linear in linears.items()
        if ".layers." in path
    }


def write_lora(model: nn.Module, rank: int, directory: Path) -> Path:
    tensors = {}
    for path, (a, b) in updates(model, rank).items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
    names = tuple(sorted({path.rpartition(".")[2] for path in updates(model, rank)}))
    write_adapter(directory, tensors, AdapterManifest("tiny", "x", "y", rank, ALPHA, names, step=1))
    return directory


def merged(tiny: Tiny, rank: int) -> PreTrainedModel:
    """transformers' model, with the adapter of this rank in its weights; 0: the base."""
    model = build(tiny)
    for path, (a, b) in (updates(model, rank) if rank else {}).items():
        model.get_parameter(f"{path}.weight").data += (ALPHA / rank) * b @ a
    return model


def served(tiny: Tiny, folder: Path) -> tuple[CompiledRunner, list[Path | None]]:
    """The runner, and no adapter and two."""
    model = build(tiny)
    assert supports(model)
    adapters = [None, *(write_lora(model, rank, folder / str(rank)) for rank in RANKS)]
    return CompiledRunner(weights_of(model)), adapters


def logits_of(runner: CompiledRunner, chunks: Sequence[SequenceChunk[AnyAdapter]]) -> Tensor:
    return torch.from_numpy(runner.forward(chunks))


def is_greedy(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether each token is the likeliest behind those before it: then `generate` gives the same answer."""
    with torch.inference_mode():
        likeliest = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].argmax(-1).tolist()
    return likeliest[len(prompt) - 1 : -1] == list(answer)


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_answers_of_a_batch_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """The base and two adapters, two prompts each, far beyond each window; then each conversation goes on."""
    tiny = ZOO[name]
    if tiny.changes.get("rope_parameters") == LONGROPE:  # the other angles of longer sequences are another test's
        tiny = replace(tiny, changes={**tiny.changes, "rope_parameters": {**LONGROPE, BORDER: 256}})
    runner, adapters = served(tiny, tmp_path)
    models = [merged(tiny, rank) for rank in (0, *RANKS)]
    engine = LocalEngine(runner, OPTIONS, fingerprint="x")
    asked = [(which, text(length, 3 + which)) for which in range(3) for length in (2, 37)]
    for _ in range(2):  # the second time most of the prompt is in a slot
        requests = [GenerateRequest(ids, NEW, frozenset(), temperature=0, adapter=adapters[i]) for i, ids in asked]
        under_way = [engine.submit(request) for request in requests]
        answers = [[delta.token for delta in generation] for generation in under_way]
        for (which, ids), answer in zip(asked, answers, strict=True):
            assert len(answer) == NEW
            assert is_greedy(models[which], ids, answer)
        asked = [(which, (*ids, *answer, 5, 6)) for (which, ids), answer in zip(asked, answers, strict=True)]
    engine.close()
    engine.join(5)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_in_company_and_in_pieces_are_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    runner, folders = served(ZOO[name], tmp_path)
    adapters: list[AnyAdapter | None] = [runner.read_adapter(path) if path else None for path in folders]
    ids = text(60)
    with torch.inference_mode():
        alone = [logits_of(runner, [SequenceChunk(0, 0, ids, adapter, 60)]) for adapter in adapters]
        for model, logits in zip((0, *RANKS), alone, strict=True):
            expected = merged(ZOO[name], model)(input_ids=torch.tensor([ids])).logits[0]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
        found: list[list[Tensor]] = [[], [], []]
        for start, stop in ((0, 21), (21, 22), (22, 41), (41, 60)):
            chunks: list[SequenceChunk[AnyAdapter]] = [
                SequenceChunk(i, start, ids[start:stop], adapter, stop - start) for i, adapter in enumerate(adapters)
            ]
            for rows, logits in zip(found, logits_of(runner, chunks).split(stop - start), strict=True):
                rows.append(logits.clone())
        for rows, expected in zip(found, alone, strict=True):
            assert torch.equal(torch.cat(rows), expected)
        runner.copy(1, 7, 33)
        chunk: SequenceChunk[AnyAdapter] = SequenceChunk(7, 33, ids[33:], adapters[1], 27)
        assert torch.equal(logits_of(runner, [chunk]), alone[1][33:])


@pytest.mark.parametrize("length", [5, 63, 64, 65, 70])
def test_a_sequence_that_outgrows_its_angles_is_read_anew(length: int) -> None:
    """LongRoPE: sequences of more than 64 tokens have other angles from their first token on."""
    tiny = ZOO["phi4-mini"]
    whole, engine = build(tiny), LocalEngine(CompiledRunner(weights_of(build(tiny))), OPTIONS, fingerprint="x")
    ids = text(length)
    given = [delta.token for delta in engine.submit(GenerateRequest(ids, 80 - length, frozenset(), temperature=0))]
    engine.close()
    engine.join(5)
    ours = list(ids)
    for token in given:  # as `generate` does, which drops its cache there
        with torch.inference_mode():
            assert int(whole(input_ids=torch.tensor([ours])).logits[0, -1].argmax()) == token
        ours.append(token)


def test_a_sequence_that_is_cut_or_copied_below_the_border_is_read_anew() -> None:
    runner, whole, ids = CompiledRunner(weights_of(build(ZOO["phi4-mini"]))), build(ZOO["phi4-mini"]), text(80)
    with torch.inference_mode():
        runner.forward([SequenceChunk(0, 0, ids[:70], None, 1)])
        runner.copy(0, 1, 50)
        for slot, start, stop in ((1, 50, 60), (1, 60, 64), (1, 64, 70), (0, 40, 50), (0, 50, 80)):
            logits = logits_of(runner, [SequenceChunk(slot, start, ids[start:stop], None, 3)])
            expected = whole(input_ids=torch.tensor([ids[:stop]])).logits[0, -3:]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
