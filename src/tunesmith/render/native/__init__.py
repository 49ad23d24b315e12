"""Conversations in the words of a base's own template, tools, calls and results too."""
