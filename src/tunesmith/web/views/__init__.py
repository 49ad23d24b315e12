"""What pages show, as small typed values: numbers are computed here, never in a template."""
