"""A line of bytes -> a typed training row, and what is wrong with it."""
