"""Ranks that each hold a part of the weights (FSDP2), for what does not fit into one of them."""
