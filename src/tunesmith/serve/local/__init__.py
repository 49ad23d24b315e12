"""The engine in this process: weights, keys and values, adapters, and the steps over them."""
