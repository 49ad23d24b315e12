"""The machine: atomic writes, and the memory and processors a process may use."""
