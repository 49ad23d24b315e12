"""The check of a file in a child process that may be killed."""
