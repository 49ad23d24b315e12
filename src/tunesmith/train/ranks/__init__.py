"""Several processes that train one run together: each takes rows of every step, and their gradients are added."""
