"""Tunesmith: self-hosted fine-tuning that speaks OpenAI's wire format."""

__version__ = "0.1.0"
