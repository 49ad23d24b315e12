"""One peer's run, in the peers' own environment: `python bench/train_peer.py JOB.json` (written by bench/train.py).

Rows come as token ids with a mask of the learned ones, the adapter's first values as a PEFT directory, so that every
engine trains the same numbers. Writes {"seconds": [per step], "losses": [...], "peak_bytes"} to the job's `result`.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def load(job: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(job["base_dir"], dtype=torch.float32)
    return PeftModel.from_pretrained(model, job["adapter_dir"], is_trainable=True)


def plain(job: dict[str, Any]) -> tuple[list[float], list[float]]:
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
            learned = torch.tensor(row["completion_mask"]).bool()
            labels[index, :size][learned] = ids[index, :size][learned]
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        seconds.append(time.monotonic() - began)
    return seconds, losses


def trl(job: dict[str, Any]) -> tuple[list[float], list[float]]:
    """SFTTrainer on the answers alone, rows in the order given."""
    from datasets import Dataset  # type: ignore[import-not-found]
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.monotonic() - self.began)

    class InOrder(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

    options: dict[str, Any] = {
        "output_dir": job["scratch"],
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["batch_size"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "completion_only_loss": True,
        "max_length": None,
        "seed": 0,
    }
    options |= job["trl_options"]
    dataset = Dataset.from_list(job["rows"])
    trainer = InOrder(
        model=load(job),
        args=SFTConfig(**options),
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(job["base_dir"]),
        callbacks=[Clock()],
    )
    trainer.train()
    return seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"] or os.cpu_count() or 1)
    if job["engine"] == "plain":
        seconds, losses = plain(job)
    else:
        seconds, losses = trl(job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Path(job["result"]).write_text(json.dumps({"seconds": seconds, "losses": losses, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
