"""The machine: atomic writes, memory and processors within the limits of containers."""
