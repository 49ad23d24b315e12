"""Generating tokens, whatever runs the model: protocol, scheduler, sampling, grammars."""
