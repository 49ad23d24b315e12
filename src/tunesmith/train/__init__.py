"""Training: `python -m tunesmith.train spec.json` fine-tunes one model in its own process and prints JSON events."""
