"""Generating tokens: the engine protocol, scheduler, sampling and grammars."""
