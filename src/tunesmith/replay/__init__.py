"""Asks a teacher for the answers to a file's rows, while it still can be asked."""
