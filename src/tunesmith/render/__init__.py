"""Messages <-> tokens. The only renderer: the check, training and serving share it."""
