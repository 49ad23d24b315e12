"""Several processes that train one run together, each with rows of every step."""
