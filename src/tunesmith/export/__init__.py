"""Tuned models for other programs, their cards, and training once more."""
