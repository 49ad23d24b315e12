"""A training step as compiled code."""
