"""Every setting, once: its type, unit, default and one line of help.

Read in this order, the first that has a value wins: arguments, environment (`TUNESMITH_PORT=8001`),
`tunesmith.toml` in the data directory, the default here.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import platformdirs
from pydantic import BaseModel, Field, FiniteFloat, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

MODEL_ALIASES = dict.fromkeys(
    (
        "gpt-3.5-turbo",
        "gpt-3.5-turbo-0613",
        "gpt-3.5-turbo-1106",
        "gpt-3.5-turbo-0125",
        "gpt-4-0613",
        "gpt-4o-2024-08-06",
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
        "gpt-4.1-2025-04-14",
        "gpt-4.1-mini",
        "gpt-4.1-mini-2025-04-14",
        "gpt-4.1-nano",
        "gpt-4.1-nano-2025-04-14",
        "babbage-002",
        "davinci-002",
    ),
    "smollm2-135m-instruct",
)


def default_data_dir() -> Path:
    return Path(os.environ.get("TUNESMITH_DATA_DIR") or platformdirs.user_data_path("tunesmith", appauthor=False))


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie below the data directory."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "tunesmith.db"

    @property
    def blobs(self) -> Path:
        return self.root / "files"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def models(self) -> Path:
        """Adapters of tuned models."""
        return self.root / "models"

    @property
    def api_key_file(self) -> Path:
        return self.root / "api-key"


AdapterKind: TypeAlias = Literal["lora", "none"]
Quantization: TypeAlias = Literal["none", "nf4"]
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]
MAX_ALPHA = 4096.0
TARGET_SETS = ("all-linear", "attention", "mlp")


class TrainingOptions(BaseModel):
    """What decides a training run beside OpenAI's hyperparameters.

    Each is a setting of the server, and a job may have its own under the key `tunesmith`.
    """

    adapter: AdapterKind = Field("lora", description="What is trained: LoRA beside a frozen base; none: all weights.")
    base_learning_rate: FiniteFloat = Field(2.5e-4, gt=0, le=1, description="What learning_rate_multiplier multiplies.")
    lora_rank: int = Field(16, ge=1, le=512, description="Rank of the LoRA adapters.")
    lora_alpha: FiniteFloat = Field(32.0, gt=0, le=MAX_ALPHA, description="LoRA scaling numerator (alpha / rank).")
    lora_dropout: FiniteFloat = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    lora_targets: str | list[str] = Field(
        "all-linear",
        description="Layers with LoRA: all-linear (but the output head), attention, mlp, or names: q_proj,v_proj.",
    )
    quantization: Quantization = Field(
        "none", description="Of the frozen base: nf4 is QLoRA; on CUDA with bitsandbytes only, not measured."
    )
    schedule: Schedule = Field("linear", description="Learning rate after the warm-up: linear, cosine or constant.")
    warmup_ratio: FiniteFloat = Field(0.03, ge=0, le=1, description="Share of the steps in which the rate rises.")
    weight_decay: FiniteFloat = Field(0.0, ge=0, le=1, description="AdamW's, decoupled; matrices only.")
    max_grad_norm: FiniteFloat = Field(1.0, ge=0, le=1000, description="Longer gradients are clipped to it; 0: never.")

    @property
    def target_names(self) -> tuple[str, ...]:
        return (self.lora_targets,) if isinstance(self.lora_targets, str) else tuple(self.lora_targets)

    @field_validator("lora_targets")
    @classmethod
    def _targets(cls, targets: str | list[str]) -> str | list[str]:
        """One of the sets, or names of layers; `q_proj,v_proj` is a list, for environment and command line."""
        names = targets.split(",") if isinstance(targets, str) else targets
        names = list(dict.fromkeys(name.strip() for name in names))
        if len(names) == 1 and names[0] in TARGET_SETS:
            return names[0]
        if not 1 <= len(names) <= 64 or not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) for name in names):
            raise ValueError(f"{targets!r} is neither one of {', '.join(TARGET_SETS)} nor a list of layers' names")
        return names


class Settings(BaseSettings, TrainingOptions):
    model_config = SettingsConfigDict(env_prefix="TUNESMITH_", extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir, description="Where everything is kept.")
    cache_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("tunesmith", appauthor=False),
        description="Derived files, shared by all data directories; may be deleted at any time.",
    )
    database_url: str | None = Field(None, description="SQLAlchemy URL; unset: SQLite in the data directory.")
    host: str = Field("127.0.0.1", description="Address the API binds to.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API binds to; 0 takes a free one.")

    organization: str = Field("personal", pattern=r"^[a-z0-9-]{1,40}$", description="Slug in `ft:` names, owned_by.")
    base_model: str = Field("smollm2-135m-instruct", description="Base used by the demo and behind the aliases.")
    aliases: dict[str, str] = Field(
        default_factory=lambda: dict(MODEL_ALIASES),
        description="Names of OpenAI models -> base here, so that existing code runs.",
    )
    bases: dict[str, str] = Field(
        default_factory=dict, description="Further bases: name -> local Hugging Face directory or hub id."
    )

    result_encoding: Literal["plain", "base64"] = Field(
        "plain", description="How result files are served: plain CSV as in 2023, or base64 as OpenAI since 2024."
    )
    max_file_bytes: int = Field(512 * 1024 * 1024, gt=0, description="Largest file of one request, bytes.")
    max_upload_bytes: int = Field(8 * 1024**3, gt=0, description="Largest file that comes in parts, bytes.")
    max_part_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Largest part of an upload, bytes.")
    upload_seconds: int = Field(3600, gt=0, description="How long an upload takes parts, seconds.")
    sweep_seconds: float = Field(
        600.0, gt=0, description="Between two looks for expired files and uploads, whose bytes then go, seconds."
    )
    max_suffix_chars: int = Field(64, gt=0, le=255, description="Longest suffix of a model's name, characters.")
    max_metadata_pairs: int = Field(16, ge=0, le=1000, description="Most pairs of metadata of an object.")
    max_example_tokens: int | None = Field(None, gt=0, description="Tokens per example; unset: the base's context.")

    limit_requests_per_minute: int = Field(0, ge=0, description="Model requests of a project a minute; 0: no limit.")
    limit_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens of a project a minute, prompts and answers; 0: no limit."
    )
    limit_uploads_per_minute: int = Field(
        1000, ge=0, description="Files and parts of files of a project a minute; 0: no limit."
    )
    limit_concurrent_requests: int = Field(
        0, ge=0, description="Model requests of a project under way at a time; 0: no limit."
    )

    lease_seconds: float = Field(30.0, gt=0, description="How long a silent worker keeps its job, seconds.")
    poll_seconds: float = Field(0.5, gt=0, description="How often an idle worker looks for a job, seconds.")

    full_learning_rate: FiniteFloat = Field(
        2e-5, gt=0, le=1, description="Takes base_learning_rate's place in jobs that train all weights."
    )
    train_threads: int = Field(0, ge=0, description="Threads of a trainer; 0: all processors it may use.")
    checkpoint_seconds: float = Field(
        120.0, ge=0, description="Between saves of a trainer's progress, seconds; 0: only at the ends of epochs."
    )
    train_nice: int = Field(10, ge=0, le=19, description="Priority of a trainer (higher is humbler).")
    train_idle: bool = Field(
        True, description="A trainer takes only what other processes leave (Linux); false: its share by train_nice."
    )

    serve_threads: int = Field(0, ge=0, description="Threads of the chat engine; 0: all processors it may use.")
    serve_weights: Literal["auto", "float32", "float16"] = Field(
        "auto", description="Weights of served bases; auto: 16 bits where a check finds that accurate enough."
    )
    serve_drafts: bool = Field(True, description="Draft tokens from earlier text, to verify several in one step.")
    serve_memory_mib: int = Field(0, ge=0, description="Memory for bases in use, MiB; 0: half of the machine's.")
    serve_adapter_mib: int = Field(512, gt=0, description="Memory for adapters in use, per base, MiB.")
    serve_cache_mib: int = Field(0, ge=0, description="Memory for keys and values, per base, MiB; 0: an eighth.")
    serve_remote: dict[str, str] = Field(
        default_factory=dict,
        description="Bases that a vLLM server generates for: name -> its URL, http://gpu:8000; not measured.",
    )
    serve_remote_key: SecretStr | None = Field(None, description="Key of the vLLM servers (their --api-key).")
    serve_remote_adapters: int = Field(64, ge=1, description="Adapters loaded in a vLLM server at once.")
    chat_running: int = Field(16, ge=1, description="Answers that share a base's steps.")
    chat_waiting: int = Field(256, ge=1, description="Chat requests that may wait for a base; more get a 503.")
    chat_max_tokens: int = Field(4096, ge=1, description="Longest answer if a request sets no limit, tokens.")

    moderation: Literal["off", "warn", "block"] = Field(
        "warn", description="Moderation of training data: not at all, as a warning, or refusing the job."
    )
    moderation_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Moderation service (.../v1/moderations) or guard model (.../v1/chat/completions); unset: offline.",
    )
    moderation_model: str | None = Field(None, description="Model name that the moderation service is asked for.")
    moderation_api_key: SecretStr | None = Field(None, description="Key of the moderation service.")
    moderation_parallel: int = Field(4, ge=1, le=64, description="Requests to the moderation service at a time.")
    moderation_timeout: float = Field(30.0, gt=0, description="How long one such request may take, seconds.")

    wandb_api_key: SecretStr | None = Field(
        None, description="Weights & Biases key for jobs with `integrations`; unset: WANDB_API_KEY of the worker."
    )

    @field_validator("serve_remote")
    @classmethod
    def _remotes(cls, remotes: dict[str, str]) -> dict[str, str]:
        """URLs without a slash or /v1 at the end, which many write out of habit."""
        for name, url in remotes.items():
            if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
                raise ValueError(f"{url!r} of {name!r} is not the URL of a server, such as http://gpu:8000")
        return {name: url.rstrip("/").removesuffix("/v1") for name, url in remotes.items()}

    def training_options(self) -> TrainingOptions:
        """What a job has that says nothing else."""
        return TrainingOptions(**self.model_dump(include=set(TrainingOptions.model_fields)))

    @property
    def paths(self) -> Paths:
        return Paths(self.data_dir.expanduser())

    @property
    def organization_id(self) -> str:
        return f"org-{self.organization}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, toml_file=default_data_dir() / "tunesmith.toml")
        return init_settings, env_settings, toml


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
