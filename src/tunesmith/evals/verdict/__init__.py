"""What a worker and the process that evaluates its job tell each other; no torch."""
