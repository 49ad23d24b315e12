"""Embeddings of texts, for graders that compare by meaning."""
