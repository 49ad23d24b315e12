"""The same rows through TRL, and adapters through vLLM, where installed.

Not run on a GPU yet.
"""

import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.train.core.device import Device
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.trial.ours import Measures
from tunesmith.train.trial.shapes import Shape, batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import SFTConfig

TRL_STEPS = 3
ANSWERS, ANSWER_TOKENS = 64, 128  # that vLLM generates, half of them with either adapter


def missing(*packages: str) -> str | None:
    """Which of the packages is not installed; None where all are."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def trl_speed(model: "PreTrainedModel", shape: Shape, device: Device, folder: Path) -> Measures:
    """TRL's SFTTrainer with PEFT's LoRA of rank 16 on the same rows.

    Its first step is not counted.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTTrainer

    ended: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: object, **__: object) -> None:
            ended.append(time.perf_counter())

    rows = batch(shape, shape.sizes["vocab_size"])
    data = [_example(one.rows[0]) for one in rows.examples]
    SFTTrainer(
        model=model,
        args=_trl_arguments(shape, device, folder),
        train_dataset=Dataset.from_list(data * TRL_STEPS),
        processing_class=_tokenizer(shape.sizes["vocab_size"]),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        callbacks=[Clock()],
    ).train()
    taken = (ended[-1] - ended[0]) / (len(ended) - 1)
    return {"tokens/s": rows.tokens / taken}


def _trl_arguments(shape: Shape, device: Device, folder: Path) -> "SFTConfig":
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder),
        max_steps=TRL_STEPS,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=max(1, shape.rows // 8),
        gradient_checkpointing=False,
        bf16=device.is_gpu and device.dtype.itemsize == 2,
        use_cpu=not device.is_gpu,
        max_length=None,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _example(row: TokenRow) -> dict[str, list[int]]:
    return {"input_ids": list(row.ids), "completion_mask": [int(weight > 0) for weight in row.weights]}


def _tokenizer(vocabulary: int) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"<{number}>": number for number in range(vocabulary)}
    inner = Tokenizer(WordLevel(words, unk_token="<0>"))  # noqa: S106  # a token of the vocabulary
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<0>", eos_token="<1>", unk_token="<0>")  # noqa: S106


def vllm_answers(base: Path, adapters: list[Path], shape: Shape) -> Measures:
    """Greedy answers with two adapters in one batch: do the adapters act?"""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]
    from vllm.lora.request import LoRARequest  # type: ignore[import-not-found]

    engine = LLM(
        str(base), enable_lora=True, max_loras=2, max_lora_rank=16, skip_tokenizer_init=True, gpu_memory_utilization=0.5
    )
    rows = batch(shape, shape.sizes["vocab_size"]).examples
    prompts = [{"prompt_token_ids": list(rows[number % len(rows)].rows[0].ids)} for number in range(ANSWERS)]
    requests = [LoRARequest(path.name, number, str(path)) for number, path in enumerate(adapters, 1)]
    sampling = SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS, ignore_eos=True, detokenize=False)
    began = time.perf_counter()
    chosen = [requests[2 * number // ANSWERS] for number in range(ANSWERS)]
    answers = [one.outputs[0].token_ids for one in engine.generate(prompts, sampling, lora_request=chosen)]
    taken = time.perf_counter() - began
    plain = engine.generate(prompts[:1], sampling)[0].outputs[0].token_ids
    other = engine.generate(prompts[:1], sampling, lora_request=requests[1])[0].outputs[0].token_ids
    return {
        "tokens/s": ANSWERS * ANSWER_TOKENS / taken,
        "adapters act": len({tuple(one) for one in (plain, answers[0], other)}) == 3,
    }


def write_adapter(base: Path, shape: Shape, seed: int, folder: Path) -> Path:
    """A random adapter in PEFT's format, for the base in `base`."""
    import torch
    from safetensors.torch import save_file

    hidden, heads = shape.sizes["hidden_size"], shape.sizes["head_dim"] * shape.sizes["num_attention_heads"]
    draw, tensors = torch.Generator().manual_seed(seed), {}
    for layer in range(shape.sizes["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(16, hidden, generator=draw) / hidden**0.5
        tensors[f"{name}.lora_B.weight"] = torch.randn(heads, 16, generator=draw)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 16, "lora_alpha": 16, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    return folder
