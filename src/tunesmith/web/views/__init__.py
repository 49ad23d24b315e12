"""What pages show, as small typed values.

Numbers are computed here, never in a template.
"""
