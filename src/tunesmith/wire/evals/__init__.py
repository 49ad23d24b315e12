"""`/v1/evals`: evals, their runs, and what their rows were answered."""
