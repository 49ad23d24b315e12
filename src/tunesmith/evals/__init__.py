"""Answers compared with answers, and what can be said for sure."""
