"""Conversations with a model, as the command line has them."""
