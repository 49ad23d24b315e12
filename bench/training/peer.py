"""One peer's run, in the peer's own environment: `python bench/training/peer.py JOB.json` (written by bench/train.py).

Rows come as token ids with a mask of the learned ones, the adapter's first values as a PEFT directory, so that every
engine trains the same numbers. Writes {"seconds": [per step], "losses": [...]} to the job's `result`.
"""

import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

Job = dict[str, Any]
Measured = tuple[list[float], list[float]]  # seconds and losses of the steps


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds of each step of transformers' Trainer, and the losses it logs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.monotonic() - self.began)

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def load(job: Job, adapter: bool = True) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(job["base_dir"], dtype=torch.float32)
    if not adapter:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, job["adapter_dir"], is_trainable=True)


def plain(job: Job) -> Measured:
    """transformers + PEFT: rows of a batch padded to its longest, all logits, AdamW."""
    model = load(job).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job["learning_rate"], weight_decay=0.0)
    seconds, losses = [], []
    for step in range(job["steps"]):
        began = time.monotonic()
        rows = job["rows"][step * job["batch_size"] : (step + 1) * job["batch_size"]]
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        labels = torch.full((len(rows), width), -100)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            ids[index, :size] = torch.tensor(row["input_ids"])
            mask[index, :size] = 1
            labels[index, :size] = torch.tensor(labels_of(row))
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        seconds.append(time.monotonic() - began)
    return seconds, losses


def labels_of(row: dict[str, list[int]]) -> list[int]:
    return [token if learned else -100 for token, learned in zip(row["input_ids"], row["completion_mask"], strict=True)]


def trainer_options(job: Job) -> dict[str, Any]:
    """What all trainers that stand on transformers' Trainer are told."""
    return {
        "output_dir": job["scratch"] + "/out",
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["batch_size"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "steps" if job["save_steps"] else "no",
        "save_steps": job["save_steps"] or 500,
        "use_cpu": True,
        "bf16": False,
        "seed": 0,
    }


def trl(job: Job) -> Measured:
    """SFTTrainer on the answers alone, rows in the order given."""
    from datasets import Dataset  # type: ignore[import-untyped, unused-ignore]
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

    options = trainer_options(job) | {"completion_only_loss": True, "max_length": None} | job["options"]
    clock = Clock()
    trainer = InOrder(
        model=load(job),
        args=SFTConfig(**options),
        train_dataset=Dataset.from_list(job["rows"]),
        processing_class=AutoTokenizer.from_pretrained(job["base_dir"]),
        callbacks=[clock],
    )
    trainer.train()
    return clock.seconds, clock.losses


def trl_dpo(job: Job) -> Measured:
    """DPOTrainer with a LoRA of its own, whose first values are ours; the reference is the base without it."""
    from datasets import Dataset
    from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # rows are tokens already

    options = trainer_options(job) | {"beta": job["beta"], "max_length": None} | job["options"]
    clock = Clock()
    trainer = InOrder(
        model=load(job, adapter=False),
        args=DPOConfig(**options),
        train_dataset=Dataset.from_list(job["rows"]),
        processing_class=AutoTokenizer.from_pretrained(job["base_dir"]),
        peft_config=LoraConfig.from_pretrained(job["adapter_dir"]),
        callbacks=[clock],
    )
    set_peft_model_state_dict(trainer.model, load_peft_weights(job["adapter_dir"], device="cpu"))
    trainer.train()
    return clock.seconds, clock.losses


def llamafactory(job: Job) -> Measured:
    """LLaMA-Factory's own SFT workflow on rows that are tokens already (its `tokenized_path`)."""
    # It imports torchaudio for audio rows; the wheel wants CUDA and does not load beside a CPU build of torch.
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp  # type: ignore[import-not-found, unused-ignore]

    packed = job["options"].get("neat_packing", False)
    step_rows = [job["rows"][at : at + job["batch_size"]] for at in range(0, len(job["rows"]), job["batch_size"])]
    rows = [pack(some) for some in step_rows] if packed else [single(row) for row in job["rows"]]
    tokenized = job["scratch"] + "/rows"
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(tokenized)
    options = trainer_options(job) | {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job["base_dir"],
        "adapter_name_or_path": job["adapter_dir"],
        "finetuning_type": "lora",
        "template": "empty",
        "dataset": "rows",
        "tokenized_path": tokenized,
        "disable_shuffling": True,
        "flash_attn": "sdpa",
        "infer_dtype": "float32",
        "overwrite_output_dir": True,
        **job["options"],
    }
    if packed:
        options["per_device_train_batch_size"] = 1
    clock = Clock()
    run_exp(options, callbacks=[clock])
    return clock.seconds, clock.losses


def single(row: dict[str, list[int]]) -> dict[str, list[int]]:
    return {"input_ids": row["input_ids"], "labels": labels_of(row), "attention_mask": [1] * len(row["input_ids"])}


def pack(rows: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """As LLaMA-Factory's neat packing does: one sequence, the rows' numbers as its attention mask, a multiple of 8."""
    parts = [
        (row["input_ids"], labels_of(row), [number] * len(row["input_ids"]), [*range(len(row["input_ids"]))])
        for number, row in enumerate(rows, 1)
    ]
    padding = -sum(len(ids) for ids, *_ in parts) % 8
    parts.append(([0] * padding, [-100] * padding, [0] * padding, [0] * padding))
    names = ("input_ids", "labels", "attention_mask", "position_ids")
    return {name: [value for part in parts for value in part[index]] for index, name in enumerate(names)}


KINDS: dict[str, Callable[[Job], Measured]] = {
    "plain": plain,
    "trl": trl,
    "trl-dpo": trl_dpo,
    "llamafactory": llamafactory,
}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    seconds, losses = KINDS[job["kind"]](job)
    Path(job["result"]).write_text(json.dumps({"seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    main()
