"""Ranks that each hold a part of the weights, by FSDP2."""
