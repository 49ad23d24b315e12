"""Rows as other tools write them, and the rows of ours that say the same."""
