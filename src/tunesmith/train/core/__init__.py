"""Rows, batches, losses and the optimizer: training without a model in it."""
