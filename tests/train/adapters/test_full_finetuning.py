"""Training all weights: the same path as an adapter's, resumed to the same bits, and a model of its own in the end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.train.conftest import tiny_llama
from tests.train.test_run import StopAfter, of_type, stopped, train
from transformers import AutoModelForCausalLM

from tunesmith.errors import InvalidRequest
from tunesmith.models.adapters import read_manifest
from tunesmith.models.directory import fingerprint
from tunesmith.models.tuned import own_base
from tunesmith.render.renderer import load_renderer
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.train.adapters.full_finetuning import FullFinetuning
from tunesmith.train.core.device import Device
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.layers import trained_head
from tunesmith.train.layers.trained_head import trained_token_logprobs
from tunesmith.train.loading import load_base
from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import TreeScorer
from tunesmith.train.protocol.spec import SpecError, TrainSpec

Make = Callable[..., TrainSpec]


def weights(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


def load(directory: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


@pytest.mark.parametrize("cap", [0.0, 1.5])
def test_a_trained_head_has_torchs_value_and_gradients(cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_head, "CHUNK_LOGITS", 20)  # two of nine tokens at once
    torch.manual_seed(0)
    hidden = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(8, (9,))
    logprobs, correct = trained_token_logprobs(hidden, weight, targets, cap)
    logits = hidden @ weight.t()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    expected = torch.log_softmax(logits, -1).gather(1, targets.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(logprobs, expected)
    assert torch.equal(correct, logits.argmax(-1) == targets)
    direction = torch.randn(9, dtype=torch.float64)
    mine = torch.autograd.grad((logprobs * direction).sum(), (hidden, weight))
    theirs = torch.autograd.grad((expected * direction).sum(), (hidden, weight))
    torch.testing.assert_close(mine, theirs)


def test_the_packed_gradient_of_every_weight_is_the_plain_one(tmp_path: Path) -> None:
    rows = [TokenRow((*range(1, 13), n, 40 + n, 7), (0.0,) * 13 + (1.0, 1.0), n) for n in range(3)]
    gradients = []
    for scorer in (TreeScorer, PaddedScorer):
        model = tiny_llama().double()
        whole = FullFinetuning(model, tmp_path)
        if scorer is TreeScorer:
            accelerate(model)
        (-scorer(model).score(rows).logprobs.sum()).backward()
        gradients.append(whole.grad.clone())
        assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert (gradients[0] - gradients[1]).norm() < 1e-6 * gradients[1].norm()  # transformers' norm is in float32
    assert gradients[0].count_nonzero() > 0.5 * whole.parameter_count


@pytest.fixture(scope="module")
def tuned(tiny_base: Path, chat_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A model of which all weights were trained for two epochs, and its last loss."""
    output = tmp_path_factory.mktemp("tuned")
    options = TrainingOptions(adapter="none", base_learning_rate=1e-4)
    spec = TrainSpec("job", "tiny", tiny_base, chat_file, output, batch_size=5, n_epochs=2, options=options, threads=2)
    events = train(spec)
    losses = [float(str(step["train_loss"])) for step in of_type(events, "step")]
    assert losses[-1] < losses[0]
    assert events[-1]["path"] == str(output / "adapter")
    return output / "adapter", losses[-1]


def test_all_weights_are_trained_and_become_a_model_of_their_own(tuned: tuple[Path, float], tiny_base: Path) -> None:
    done, _ = tuned
    model, base = load(done), load(tiny_base)
    changed = [name for name, value in model.named_parameters() if not torch.equal(value, base.get_parameter(name))]
    assert len(changed) == len([*base.named_parameters()])
    assert model.get_parameter("lm_head.weight") is model.get_parameter("model.embed_tokens.weight")
    assert "lm_head.weight" not in json.loads(weights(done)[8 : 8 + int.from_bytes(weights(done)[:8], "little")])
    manifest = read_manifest(done)
    assert (manifest.adapter, manifest.step, manifest.base_fingerprint) == ("none", 4, fingerprint(tiny_base))
    assert load_renderer(done).name == load_renderer(tiny_base).name
    assert own_base(done) == done
    last = done.parent / "checkpoints" / "step-000004"
    assert (last / "model.safetensors").stat().st_ino == (done / "model.safetensors").stat().st_ino
    assert fingerprint(done) != fingerprint(done.parent / "checkpoints" / "step-000002")


def test_a_stopped_run_of_all_weights_resumes_to_the_same_bits(make_spec: Make, tmp_path: Path) -> None:
    whole = make_spec(output_dir=tmp_path / "whole", adapter="none", weight_decay=0.1, n_epochs=1)
    expected = train(whole)
    spec = make_spec(adapter="none", weight_decay=0.1, n_epochs=1)
    stopped(spec, StopAfter(2))
    events = train(spec)
    assert of_type(events, "started")[0]["resumed_from_step"] == 2
    assert weights(spec.output_dir / "adapter") == weights(whole.output_dir / "adapter")
    assert [e["train_loss"] for e in of_type(events, "step")] == [e["train_loss"] for e in of_type(expected, "step")]


@pytest.mark.parametrize("kind", ["none", "lora"])
def test_tuned_weights_can_be_trained_further(make_spec: Make, tuned: tuple[Path, float], kind: str) -> None:
    base, loss = tuned
    spec = make_spec(adapter=kind, base_dir=base, lora_rank=2, n_epochs=1, batch_size=5)
    assert of_type(train(spec), "step")[0]["train_loss"] < 1.5 * loss  # type: ignore[operator]
    done = spec.output_dir / "adapter"
    if kind == "none":
        assert own_base(done) == done
        return
    linked = done / "base"
    assert own_base(done) == linked
    assert json.loads((done / "adapter_config.json").read_text())["base_model_name_or_path"] == "./base"
    assert (linked / "model.safetensors").stat().st_ino == (base / "model.safetensors").stat().st_ino
    assert fingerprint(linked) == read_manifest(done).base_fingerprint == fingerprint(base)


def test_tuned_weights_answer_as_transformers_has_them(
    tuned: tuple[Path, float], tiny_base: Path, tmp_path: Path
) -> None:
    prompt = tuple(range(5, 25))
    opened = Pool(Settings(data_dir=tmp_path, serve_threads=2, serve_weights="float32")).open(tiny_base, tuned[0])
    request = GenerateRequest(prompt, max_tokens=8, eos_ids=frozenset(), temperature=0)
    ours = [delta.token for delta in opened.engine.submit(request)]
    opened.engine.close()
    model, ids = load(tuned[0]), list(prompt)
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert ours == ids[len(prompt) :]


def test_all_weights_go_on_from_a_lora_that_is_merged(make_spec: Make, tmp_path: Path) -> None:
    first = make_spec(output_dir=tmp_path / "first", lora_rank=4, lora_alpha=2.0, n_epochs=1)
    train(first)
    adapter = first.output_dir / "adapter"
    losses = []
    for kind in ("lora", "none"):
        more = make_spec(
            output_dir=tmp_path / kind, adapter=kind, init_adapter_dir=adapter, lora_rank=4, lora_alpha=2.0, n_epochs=1
        )
        losses.append(of_type(train(more), "step")[0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_preferences_train_all_weights_against_the_base_as_it_was(make_spec: Make, preference_file: Path) -> None:
    spec = make_spec(adapter="none", method="dpo", beta=0.1, training_file=preference_file)
    steps = of_type(train(spec), "step")
    assert steps[0]["train_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert steps[-1]["train_loss"] < 0.69  # type: ignore[operator]


def test_too_little_memory_for_all_weights_is_said_before_the_first_step(
    make_spec: Make, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_base, base := tmp_path / "base")
    tiny_llama(49_152).save_pretrained(base)
    monkeypatch.setattr(Device, "free_memory", lambda device: 1_000_000)
    with pytest.raises(InvalidRequest, match=r"Training all 3,\d+,\d+ weights takes 0\.1 GB .*Train a LoRA") as error:
        train(make_spec(base_dir=base, adapter="none"))
    assert error.value.code == "out_of_memory"
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:4096])  # nothing can be loaded
    with pytest.raises(InvalidRequest, match="Training all 3,"):
        load_base(make_spec(base_dir=base, adapter="none"), Device("cuda:0", torch.float32, tf32=True))
    with pytest.raises(
        InvalidRequest, match=r"The 3,\d+,\d+ weights of the base take 0\.0 GB on cuda:0, where 0\.0 GB"
    ):
        load_base(make_spec(base_dir=base), Device("cuda:0", torch.bfloat16))


def test_quantization_is_refused_where_it_cannot_be_had(make_spec: Make) -> None:
    with pytest.raises(InvalidRequest, match=r"this machine has no CUDA GPU .*no package bitsandbytes \(pip install"):
        train(make_spec(quantization="nf4"))
    with pytest.raises(SpecError, match="quantization is 'nf4'; it has to be 'none' where all weights are trained"):
        make_spec(quantization="nf4", adapter="none")
