"""Messages to tokens and back: the one renderer of check, training and serving."""
