"""The HTTP edge: OpenAI's paths, shapes, status codes and headers.

One file per noun; no torch, no SQL.
"""
