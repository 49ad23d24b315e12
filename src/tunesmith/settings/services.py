"""Services that the server asks: moderation, and Weights & Biases."""

from typing import Literal

from pydantic import Field, SecretStr

from tunesmith.settings.group import Group


class ServiceSettings(Group):
    """Services that the server asks: moderation, and Weights & Biases."""

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
