"""Looks at a file's rows, each in the child process of the check: bounded in time and memory, and killed beyond."""
