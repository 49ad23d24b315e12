"""Every setting, once: its type, unit, default and one line of help.

The first of these that has a value wins: arguments, environment (`TUNESMITH_PORT=8001`), `tunesmith.toml` in the data
directory, the default here.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias, TypeVar

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tunesmith.data_paths import Paths
from tunesmith.setting_values import dotted_names, host_names, launcher_address, lists_of_one, origins, server_urls

log = logging.getLogger(__name__)  # without a handler a warning is one line on standard error

# Earlier names of settings -> today's. Each works for one release, with a warning, and is then removed from here.
OLD_NAMES: Mapping[str, str] = {"serve_drafts": "serve_prompt_lookup"}

# OpenAI's models that could be tuned: aliases of `base_model`, so that existing code runs unchanged.
OPENAI_MODELS = (
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
)


def default_data_dir() -> Path:
    """TUNESMITH_DATA_DIR, or the user's data directory of the platform."""
    return Path(os.environ.get("TUNESMITH_DATA_DIR") or platformdirs.user_data_path("tunesmith", appauthor=False))


AdapterKind: TypeAlias = Literal["lora", "none"]
Quantization: TypeAlias = Literal["none", "nf4"]
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]
Sharding: TypeAlias = Literal["auto", "none", "full"]
MAX_ALPHA = 4096.0
DEVICES = r"auto|cpu|cuda(:[0-9]{1,2})?"
TARGET_SETS = ("all-linear", "attention", "mlp")


class TrainingOptions(BaseModel):
    """What decides the result of a training run besides OpenAI's hyperparameters.

    Each is a setting of the server, a job may have its own under the key `tunesmith`, and the trainer's spec holds them
    as one field. Their defaults are written here and nowhere else.
    """

    model_config = ConfigDict(frozen=True)

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
    def lora_scaling(self) -> float:
        """What the product of a LoRA's two matrices is multiplied by."""
        return self.lora_alpha / self.lora_rank

    @property
    def target_names(self) -> tuple[str, ...]:
        """`lora_targets` as names of layers, or as the name of one of `TARGET_SETS`."""
        return (self.lora_targets,) if isinstance(self.lora_targets, str) else tuple(self.lora_targets)

    @field_validator("lora_targets")
    @classmethod
    def _targets(cls, targets: str | list[str]) -> str | list[str]:
        """Accepts a set's name, a list of layer names, or `q_proj,v_proj` as environment and command line give it."""
        names = targets.split(",") if isinstance(targets, str) else targets
        names = list(dict.fromkeys(name.strip() for name in names))
        if len(names) == 1 and names[0] in TARGET_SETS:
            return names[0]
        if not 1 <= len(names) <= 64 or not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) for name in names):
            raise ValueError(f"{targets!r} is neither one of {', '.join(TARGET_SETS)} nor a list of layers' names")
        return names


class Resources(BaseModel):
    """What a job takes of a node of a cluster while it trains."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gpus: FiniteFloat = Field(0, ge=0, le=64, description="GPUs; with 2 and more, as many ranks train the job.")
    cpus: FiniteFloat = Field(1, ge=0, le=1024, description="Processors, and threads where train_threads is 0.")
    memory_gib: FiniteFloat = Field(0, ge=0, le=65536, description="Memory, GiB; 0: none is set aside.")

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is not possible: give a whole number of GPUs, or a share of one")
        return gpus


class Settings(BaseSettings, TrainingOptions):
    """The settings of a server, its worker and every command."""

    model_config = SettingsConfigDict(env_prefix="TUNESMITH_", extra="forbid", frozen=True)
    old_names: ClassVar[Mapping[str, str]] = OLD_NAMES

    data_dir: Path = Field(default_factory=default_data_dir, description="Directory of all data.")
    cache_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("tunesmith", appauthor=False),
        description="Derived files, shared by all data directories; may be deleted at any time.",
    )
    database_url: str | None = Field(
        None,
        repr=False,  # it may have a password
        description="SQLAlchemy URL; unset: SQLite in the data directory.",
    )
    storage: str | None = Field(
        None,
        description="Bucket of files and models: s3://bucket/prefix, gs://… or az://… (docs/storage.md);"
        " unset: the data directory.",
    )
    storage_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL of the server of s3:// or az://, such as http://minio:9000; unset: the cloud's own.",
    )
    storage_cache_gib: float = Field(
        20.0,
        gt=0,
        description="Room for copies of a bucket's files in the data directory, and as much for fetched models, GiB.",
    )
    host: str = Field("127.0.0.1", description="Address the API binds to.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API binds to; 0 takes a free one.")
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins whose web pages may call the API: https://a.example,https://b.example; or *, all.",
    )
    page_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Names of this server under which the dashboard is shown, beside its addresses: tune.example.",
    )

    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="How long a server that is asked to end answers on while /healthz says 503, seconds; longer than a"
        " proxy takes to notice that.",
    )

    organization: str = Field("personal", pattern=r"^[a-z0-9-]{1,40}$", description="Slug in `ft:` names, owned_by.")
    base_model: str = Field("smollm2-135m-instruct", description="Base model of the demo, and behind OpenAI's names.")
    aliases: dict[str, str] = Field(
        default_factory=dict,
        description="Other names of base models: alias -> base. Added to OpenAI's names, which stand for base_model;"
        ' "" removes one.',
    )
    bases: dict[str, str] = Field(
        default_factory=dict,
        description="Further base models: name -> hub id, or absolute path of a Hugging Face directory or GGUF file;"
        ' after an "@" the commit or SHA-256 that it has to have. "" removes one.',
    )

    price_file: Path | None = Field(
        None, description="Your own prices for estimates, JSON or TOML (docs/prices.md); unset: OpenAI's alone."
    )
    result_encoding: Literal["plain", "base64"] = Field(
        "plain", description="How result files are served: plain CSV as in 2023, or base64 as OpenAI since 2024."
    )
    max_file_bytes: int = Field(512 * 1024 * 1024, gt=0, description="Largest file in one request, bytes.")
    max_upload_bytes: int = Field(8 * 1024**3, gt=0, description="Largest file that is uploaded in parts, bytes.")
    max_part_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Largest part of an upload, bytes.")
    check_seconds: float = Field(
        120.0, gt=0, description="Longest check of an uploaded file, seconds, plus a second for each megabyte."
    )
    check_memory_mib: int = Field(
        0, ge=0, description="Memory that the check of an uploaded file may take, MiB; 0: a quarter of the machine's."
    )
    upload_seconds: int = Field(3600, gt=0, description="How long an upload accepts parts, seconds.")
    sweep_seconds: float = Field(
        600.0, gt=0, description="Interval at which expired files and uploads are removed, seconds."
    )
    max_suffix_chars: int = Field(64, gt=0, le=255, description="Longest suffix of a model name, characters.")
    max_metadata_pairs: int = Field(16, ge=0, le=1000, description="Maximum number of metadata pairs per object.")
    max_example_tokens: int | None = Field(
        None, gt=0, description="Longest training example, tokens; unset: the base model's context length."
    )

    limit_requests_per_minute: int = Field(0, ge=0, description="Model requests per project and minute; 0: no limit.")
    limit_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens per project and minute, prompts and answers together; 0: no limit."
    )
    limit_uploads_per_minute: int = Field(
        1000, ge=0, description="Uploads of files and parts per project and minute; 0: no limit."
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest body of a request that is no upload, bytes; more are refused."
    )
    body_timeout: float = Field(
        30.0, gt=0, description="How long a client may send nothing in the middle of a request's body, seconds."
    )
    limit_concurrent_requests: int = Field(
        0, ge=0, description="Answers under way per project (`n` each); 0: no limit."
    )

    limit_stored_chats: int = Field(10_000, ge=0, description="Stored chat completions per project; 0: no limit.")
    limit_unfinished_jobs: int = Field(1000, ge=0, description="Unfinished jobs per project; 0: no limit.")
    limit_unfinished_runs: int = Field(100, ge=0, description="Unfinished eval runs per project; 0: no limit.")
    eval_rows: int = Field(10_000, ge=1, description="Most rows of an eval run; more are refused.")
    limit_job_seconds: float = Field(
        0, ge=0, description="Longest training of a job over all its attempts, seconds; 0: no limit."
    )
    limit_project_bytes: int = Field(
        0, ge=0, description="Disk for the uploaded files of a project, bytes; 0: no limit but the disk's."
    )
    disk_reserve_bytes: int | None = Field(
        None, ge=0, description="Disk that uploads leave free, bytes; unset: 10 % of it or 2 GiB, whichever is less."
    )

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

    serve_threads: int = Field(0, ge=0, description="Threads of the chat engine; 0: all processors it may use.")
    serve_compiled: bool = Field(
        True, description="Compiled code generates answers; false: the base's own modules, in float32, as a reference."
    )
    serve_weights: Literal["auto", "float32", "float16", "int8", "int4"] = Field(
        "auto",
        description="Weights in chat; auto: 16 bits where a check finds that accurate enough; int8, int4: fewer.",
    )
    serve_prompt_lookup: bool = Field(
        True, description="Guess tokens from earlier text, and verify several of them in one step."
    )
    serve_preload: str = Field(
        "", description="Base model that a server loads once it is ready; empty: with the first request for it."
    )
    serve_memory_mib: int = Field(0, ge=0, description="Memory for loaded base models, MiB; 0: half of the machine's.")
    serve_adapter_mib: int = Field(512, gt=0, description="Memory for loaded adapters, per base model, MiB.")
    serve_cache_mib: int = Field(
        0, ge=0, description="Memory for the KV cache, per base model, MiB; 0: an eighth of all."
    )
    serve_remote: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Base models served by vLLM servers: name -> URL, such as http://gpu:8000, or a list of URLs.",
    )
    serve_remote_key: SecretStr | None = Field(None, description="API key of the vLLM servers (their --api-key).")
    serve_remote_adapters: int = Field(64, ge=1, description="Maximum number of adapters loaded in a vLLM server.")
    serve_remote_max_rank: int = Field(
        16, ge=1, le=512, description="Highest rank that the vLLM servers take (their --max-lora-rank, 16 by default)."
    )
    chat_running: int = Field(16, ge=1, description="Answers that a base model generates together.")
    chat_waiting: int = Field(
        256, ge=1, description="Chat requests of a project that may wait for a base model; more get a 503."
    )
    chat_max_tokens: int = Field(4096, ge=1, description="Longest answer when a request sets no limit, tokens.")

    embedding_model: Path | None = Field(
        None,
        description="Folder of an embedding model for the graders' metric cosine, as sentence-transformers saves it.",
    )
    python_grader_seconds: float = Field(
        120.0, gt=0, le=3600, description="Longest run of a python grader, seconds; 120 at OpenAI."
    )
    python_grader_memory_mib: int = Field(
        2048, ge=256, description="Memory that a run of a python grader may take, MiB; 2048 at OpenAI."
    )

    moderation: Literal["off", "warn", "block"] = Field(
        "warn", description="Moderation of training data: none, a warning, or refusing the job."
    )
    moderation_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Moderation service (.../v1/moderations) or guard model (.../v1/chat/completions); unset: offline.",
    )
    moderation_model: str | None = Field(None, description="Model name sent to the moderation service.")
    moderation_api_key: SecretStr | None = Field(None, description="API key of the moderation service.")
    moderation_parallel: int = Field(4, ge=1, le=64, description="Concurrent requests to the moderation service.")
    moderation_timeout: float = Field(
        30.0, gt=0, description="Timeout of a request to the moderation service, seconds."
    )

    wandb_api_key: SecretStr | None = Field(
        None,
        description="Weights & Biases key for jobs with `integrations`; unset: WANDB_API_KEY of the worker.",
    )

    @field_validator("cache_dir")
    @classmethod
    def _expanded(cls, directory: Path) -> Path:
        return directory.expanduser()

    @field_validator("launcher")
    @classmethod
    def _launcher(cls, given: str) -> str:
        return launcher_address(given)

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _origins(cls, given: str | list[str]) -> list[str]:
        return origins(given)

    @field_validator("page_hosts", mode="before")
    @classmethod
    def _hosts(cls, given: str | list[str]) -> list[str]:
        return host_names(given)

    @field_validator("aliases", "bases", mode="before")
    @classmethod
    def _dotted_names(cls, table: object) -> object:
        return dotted_names(table)

    @field_validator("serve_remote", mode="before")
    @classmethod
    def _one_or_several(cls, table: object) -> object:
        return lists_of_one(dotted_names(table))

    @field_validator("serve_remote")
    @classmethod
    def _remotes(cls, remotes: dict[str, list[str]]) -> dict[str, list[str]]:
        return server_urls(remotes)

    def resources_of(self, base: str) -> Resources:
        """What a job on `base` takes of a cluster's node, unless it says otherwise."""
        return self.ray_resources.get(base) or self.ray_resources.get("*") or Resources.model_validate({})

    def training_options(self) -> TrainingOptions:
        """The options of a job that does not set its own."""
        return TrainingOptions(**self.model_dump(include=set(TrainingOptions.model_fields)))

    @property
    def rate_to_multiply(self) -> float:
        """What a job's learning_rate_multiplier multiplies, for the adapter that is set."""
        return self.full_learning_rate if self.adapter == "none" else self.base_learning_rate

    @property
    def paths(self) -> Paths:
        """The paths below the data directory, with `~` expanded."""
        return Paths(self.data_dir.expanduser())

    @property
    def organization_id(self) -> str:
        """The organization's id, as answers show it."""
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
        """Arguments, environment, file; each of the last two under old names too."""
        old_names = getattr(settings_cls, "old_names", OLD_NAMES)
        if isinstance(env_settings, EnvSettingsSource):
            prefix = str(settings_cls.model_config.get("env_prefix", "")).lower()
            renamed = {f"{prefix}{old}": f"{prefix}{new}" for old, new in old_names.items()}
            env_settings.env_vars = _under_new_names(env_settings.env_vars, renamed, "environment", str.upper)
        path = default_data_dir() / "tunesmith.toml"
        toml = TomlConfigSettingsSource(settings_cls, toml_file=path)
        toml.init_kwargs = _under_new_names(toml.init_kwargs, old_names, path.name, str)
        return init_settings, env_settings, toml


Value = TypeVar("Value")


def _under_new_names(
    given: Mapping[str, Value], old_names: Mapping[str, str], where: str, spell: Callable[[str], str]
) -> dict[str, Value]:
    """`given` with old names replaced, each with a warning.

    Where both names are given, the new one's value wins.
    """
    values = dict(given)
    for old, new in old_names.items():
        if old in values:
            _warn_once(
                f"{spell(old)} ({where}) is now called {spell(new)}; the old name stops working in the next release."
            )
            values.setdefault(new, values[old])
            del values[old]
    return values


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
