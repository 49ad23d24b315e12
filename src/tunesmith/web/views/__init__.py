"""What pages show, as numbers and texts that templates only lay out."""
