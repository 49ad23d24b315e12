"""A trial of this machine's device: what training on it does right, and how fast."""
