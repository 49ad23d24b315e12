"""The in-process engine: weights, keys and values, adapters, and the steps over them."""
