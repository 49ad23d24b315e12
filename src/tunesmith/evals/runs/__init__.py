"""Runs of evals on the wire: their criteria, their rows, and what becomes of them."""
