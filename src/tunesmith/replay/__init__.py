"""Asks a teacher for answers while it still can be asked."""
