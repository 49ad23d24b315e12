"""Linear layers and adapters in the panels that the serving kernels read."""
