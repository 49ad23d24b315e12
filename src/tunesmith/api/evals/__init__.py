"""Evals: what a request has to be, and the runs that this process works on."""
