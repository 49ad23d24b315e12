"""Quantised blocks of GGUF files, as they are and in panels."""
