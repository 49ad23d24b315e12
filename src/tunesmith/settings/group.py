"""What the groups of settings have in common."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Some of the fields of `Settings`, which alone reads them: no group is ever made."""

    model_config = ConfigDict(frozen=True, defer_build=True)
