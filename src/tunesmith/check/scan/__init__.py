"""The pass over a file: chunks of lines, in several processes."""
