"""The machine: atomic writes, memory and processors."""
