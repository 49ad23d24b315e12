"""Which bases there are, and what they are called."""

from pathlib import Path

from pydantic import Field, field_validator

from tunesmith.setting_values import dotted_names
from tunesmith.settings.group import Group

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


class ModelSettings(Group):
    """Which bases there are, and what they are called."""

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

    @field_validator("aliases", "bases", mode="before")
    @classmethod
    def _dotted_names(cls, table: object) -> object:
        return dotted_names(table)
