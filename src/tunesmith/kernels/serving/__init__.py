"""A serving step as compiled code."""
