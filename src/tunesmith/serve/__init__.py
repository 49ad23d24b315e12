"""Serving models: from messages to tokens and back, without HTTP or the database."""
