"""Workers, and how and where trainers run."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, field_validator

from tunesmith.setting_values import launcher_address
from tunesmith.settings.group import Group
from tunesmith.settings.training_options import DEVICES, Sharding


class Resources(BaseModel):
    """What a job takes of a cluster while it trains, of each of its nodes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gpus: FiniteFloat = Field(0, ge=0, le=64, description="GPUs; with 2 and more, as many ranks train the job.")
    cpus: FiniteFloat = Field(1, ge=0, le=1024, description="Processors, and threads where train_threads is 0.")
    memory_gib: FiniteFloat = Field(0, ge=0, le=65536, description="Memory, GiB; 0: none is set aside.")
    nodes: int = Field(1, ge=1, le=64, description="Nodes, each with all that; their ranks train the job together.")

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is not possible: give a whole number of GPUs, or a share of one")
        return gpus

    def ranks_of_node(self, otherwise: int) -> int:
        """The ranks of each node: one for each of several GPUs, else `otherwise`."""
        return int(self.gpus) if self.gpus >= 2 else otherwise


class TrainerSettings(Group):
    """Workers, and how and where trainers run."""

    lease_seconds: float = Field(
        30.0, gt=0, description="How long a worker keeps its job after its last sign of life, seconds."
    )
    poll_seconds: float = Field(0.5, gt=0, description="How often an idle worker looks for a job, seconds.")

    full_learning_rate: FiniteFloat = Field(
        2e-5, gt=0, le=1, description="Replaces base_learning_rate in jobs that train all weights."
    )
    train_packing: bool = Field(
        True, description="Rows share their prefixes, and layers may be compiled; false: padded rows, as a reference."
    )
    train_device: str = Field(
        "auto",
        pattern=rf"^({DEVICES})$",
        description="Device of a trainer: auto (a GPU where PyTorch can use one), cpu, cuda, or a certain one: cuda:1.",
    )
    train_weights: Literal["auto", "float32"] = Field(
        "auto",
        description="Frozen weights of a trainer on a CPU; auto: 16 bits where the base's files have them, exactly.",
    )
    train_threads: int = Field(0, ge=0, description="Threads of a trainer; 0: all processors it may use.")
    train_ranks: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes of this machine that train a job together and share train_threads; one for each GPU.",
    )
    launcher: str = Field(
        "child",
        description="Where trainers run: child, on the worker's machine; or a Ray cluster (docs/scaling.md): its"
        " address head:6379 or ray://head:10001, auto (the one that this machine is part of), local (one for trying).",
    )
    ray_resources: dict[str, Resources] = Field(
        default_factory=dict,
        description='What a job takes of a Ray node: base -> {"gpus": 1, "cpus": 8, "memory_gib": 64}; "*": of all'
        " other bases. Unset: 1 processor.",
    )
    ray_runtime_env: dict[str, JsonValue] = Field(
        default_factory=dict,
        description='Environment of trainers on Ray: {"image_uri": "…"} or {"pip": ["tunesmith"]}; everybody who may'
        " use the cluster can read it. Unset: that of the nodes.",
    )
    ray_node_dir: Path | None = Field(
        None,
        description="Directory of a Ray node for jobs' files, which then come and go through `storage`; unset: nodes"
        " have the data directory at the same path.",
    )
    train_sharding: Sharding = Field(
        "auto",
        description="Ranks share the weights out among them; auto: where one has too little memory; none: never; full.",
    )
    checkpoint_seconds: float = Field(
        120.0,
        ge=0,
        description="Interval between saves of a trainer's progress, seconds; 0: only at the end of each epoch.",
    )
    train_nice: int = Field(
        10, ge=0, le=19, description="Nice value of a trainer (higher: lower priority); 0 on a GPU."
    )
    train_idle: bool = Field(
        True,
        description="A trainer only gets processor time that nothing else wants (Linux); false: a share by train_nice.",
    )

    @field_validator("launcher")
    @classmethod
    def _launcher(cls, given: str) -> str:
        return launcher_address(given)
