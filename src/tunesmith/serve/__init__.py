"""Tokens in, tokens out. Knows nothing of HTTP or the database."""
