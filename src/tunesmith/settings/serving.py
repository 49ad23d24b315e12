"""Engines that answer, and graders that run code or models."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from tunesmith.setting_values import dotted_names, lists_of_one, server_urls
from tunesmith.settings.group import Group

LAST_BASE = "last"  # in place of a base's name: the one that was asked last


class ServingSettings(Group):
    """Engines that answer, and graders that run code or models."""

    serve_threads: int = Field(0, ge=0, description="Threads of the chat engine; 0: all processors it may use.")
    serve_compiled: bool = Field(
        True, description="Compiled code generates answers; false: the base's own modules, in float32, as a reference."
    )
    serve_weights: Literal["auto", "float32", "float16", "int8", "int4"] = Field(
        "auto",
        description="Weights in chat; auto: 16 bits where a check finds that accurate enough; int8, int4: fewer.",
    )
    serve_matmul_precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of products with a bfloat16 base in chat; bfloat16 rounds activations, for AVX512-BF16 or AMX.",
    )
    serve_prompt_lookup: bool = Field(
        True, description="Guess tokens from earlier text, and verify several of them in one step."
    )
    serve_preload: str = Field(
        LAST_BASE,
        description="Base model that a server loads once it is ready; last: the one that was asked last, if there is"
        " memory for it; empty: none before the first request for it.",
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

    @field_validator("serve_remote", mode="before")
    @classmethod
    def _one_or_several(cls, table: object) -> object:
        return lists_of_one(dotted_names(table))

    @field_validator("serve_remote")
    @classmethod
    def _remotes(cls, remotes: dict[str, list[str]]) -> dict[str, list[str]]:
        return server_urls(remotes)
