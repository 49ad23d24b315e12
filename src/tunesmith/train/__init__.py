"""Training of one model, in a process of its own.

`python -m tunesmith.train spec.json` trains, and prints events as JSON lines.
"""
