"""The safe fixes of a file, written as a new file."""
