"""Evals, their runs, and the runs' queue."""
