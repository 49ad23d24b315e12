"""Rows and results as OpenAI's JSON."""
