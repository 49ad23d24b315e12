"""Pages about verdicts of jobs, and about evals of the API."""
