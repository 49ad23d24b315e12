"""Conversations in the words of a base's own template, tools and calls too."""
