"""Looks at a file's rows, in the child process of the check.

Each is bounded in time and memory, and killed beyond.
"""
