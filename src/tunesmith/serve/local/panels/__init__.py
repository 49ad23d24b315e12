"""A base's linear layers in the panels that the serving kernels read."""
