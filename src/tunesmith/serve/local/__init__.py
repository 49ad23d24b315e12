"""The in-process engine: weights, keys and values, adapters, and steps."""
