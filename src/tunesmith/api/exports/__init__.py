"""Tuned models written for other programs by a child process, for pages."""
