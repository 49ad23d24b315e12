"""The safe fixes of a file, as a new file."""
